"""The codes a socket is closed with: RFC 6455, section 7.4.1."""

NORMAL, GOING_AWAY, ABUSE, INTERNAL = 1000, 1001, 1008, 1011
