"""gRPC servicers: decode, check who calls, call, encode. No decision is made here."""
