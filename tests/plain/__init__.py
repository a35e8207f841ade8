"""A second implementation of docs/protocol/secure-aggregation.md, plain, written from that page alone.

It lives among the tests, and not in ``federation/``, because nobody runs it but the tests: it is the judge of the first one, and
the source of the vectors in ``tests/vectors/``. So it shares nothing with what it judges: no import of the product, no numpy, no
streaming, no floating point. A number is an integer or a fraction of any size, rounded where the page says so; a message is a
dictionary with the names of ``protos/federation/v1/rounds.proto``. Ciphers are those of ``cryptography``; hashes and HMAC are the
standard library's. ML-KEM is encapsulated here by hand, since a library takes its randomness from the operating system and a
vector cannot.

It is slow, keeps secrets in the open, and makes no checks on what it is told unless a function is named for them.
"""
