"""What happens to one client, decided without sockets, clocks or the reactor."""
