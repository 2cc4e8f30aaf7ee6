"""What Twisted finds of lbproxy: the twistd subcommand and the reactor. Only strings: nothing is imported yet."""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

service = ServiceMaker("lbproxy", "lbproxy.tap", "A proxy and load balancer: TCP balancing, health checks.", "lbproxy")
reactor = Reactor("lbproxy", "lbproxy.net.reactor", "Twisted's epoll reactor with a short way to lbproxy's sockets.")
