"""Request collapsing: who may wait, how many, and until when."""

from __future__ import annotations

from lbproxy.cache.collapse import Flights


def test_so_many_wait_and_no_more() -> None:
    flight = Flights(2).open(b"key", "leader", 5.0)
    assert [flight.join("a"), flight.join("b"), flight.join("c")] == [True, True, False]
    assert (flight.key, flight.leader, flight.began, flight.waiters) == (b"key", "leader", 5.0, ["a", "b"])


def test_who_leaves_makes_room() -> None:
    flight = Flights(1).open(b"key", "leader", 5.0)
    flight.join("a")
    flight.leave("b")
    assert not flight.join("c")
    flight.leave("a")
    assert flight.join("c")
    assert flight.waiters == ["c"]


def test_a_flight_that_has_ended_is_not_found_again() -> None:
    flights = Flights(2)
    flight = flights.open(b"key", "leader", 5.0)
    flights.open(b"other", "leader", 5.0)
    assert flights.get(b"key") is flight
    flights.end(flight)
    assert flights.get(b"key") is None
    flights.end(flight)
    assert len(flights) == 1


def test_a_new_flight_takes_the_place_of_one_under_way_and_leaves_its_waiters() -> None:
    flights = Flights(2)
    old = flights.open(b"key", "leader", 5.0)
    old.join("a")
    new = flights.open(b"key", "other", 6.0)
    assert flights.get(b"key") is new
    assert old.waiters == ["a"]
    assert new.waiters == []
