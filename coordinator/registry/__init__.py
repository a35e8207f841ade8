"""Who may connect: the transport authority, one-time tickets, enrolled nodes. Membership itself is the roll's."""
