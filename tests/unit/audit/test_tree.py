"""The tree: RFC 6962's published vectors, agreement with its definition, and every altered proof refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.audit import tree
from federation.errors import VerificationFailed
from tests.plain import log as plain

# The leaves and roots that Certificate Transparency's implementations test themselves with: google/certificate-transparency
# (merkletree tests), transparency-dev/merkle (testonly/constants.go).
LEAVES = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657",
                                           "606162636465666768696a6b6c6d6e6f")]  # fmt: skip
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {  # (index, size): path
    (0, 8): "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7 "
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e "
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    (5, 8): "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b "
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0 "
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
}
CONSISTENCY = {  # (old, new): path
    (6, 8): "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a "
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0 "
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    (2, 5): "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e "
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
}
MANY = [bytes([number, number * 7 % 256]) for number in range(70)]


def hashes(text):
    return tuple(bytes.fromhex(word) for word in text.split())


def nodes(entries):
    """Complete subtrees, computed the plain way."""
    return lambda height, place: plain.root(entries[place << height : (place + 1) << height])


def frontier_of(entries):
    frontier = tree.Frontier()
    for entry in entries:
        frontier = frontier.append(tree.leaf_hash(entry))
    return frontier


def test_published_roots():
    for size in range(9):
        assert frontier_of(LEAVES[:size]).root().hex() == ROOTS[size]
        assert tree.root_of(0, size, nodes(LEAVES)).hex() == ROOTS[size]


def test_published_inclusion_proofs():
    for (index, size), text in INCLUSION.items():
        path = hashes(text)
        assert tree.inclusion_path(index, size, nodes(LEAVES)) == path
        tree.verify_inclusion(tree.leaf_hash(LEAVES[index]), index, size, path, bytes.fromhex(ROOTS[size]))


def test_published_consistency_proofs():
    for (old, new), text in CONSISTENCY.items():
        path = hashes(text)
        if old & (old - 1) == 0:  # RFC 6962 leaves the first hash out, which is the old root
            path = (bytes.fromhex(ROOTS[old]), *path)
        assert tree.consistency_path(old, new, nodes(LEAVES)) == path
        tree.verify_consistency(old, bytes.fromhex(ROOTS[old]), new, bytes.fromhex(ROOTS[new]), path)


def test_every_proof_of_every_small_tree_is_the_definitions():
    for size in range(1, 41):
        entries, root = MANY[:size], plain.root(MANY[:size])
        assert frontier_of(entries).root() == root
        for index in range(size):
            path = tuple(plain.inclusion(entries, index))
            assert tree.inclusion_path(index, size, nodes(entries)) == path
            tree.verify_inclusion(tree.leaf_hash(entries[index]), index, size, path, root)
        for old in range(1, size):
            path = tuple(plain.consistency(entries, old))
            if old & (old - 1) == 0:
                path = (plain.root(entries[:old]), *path)
            assert tree.consistency_path(old, size, nodes(entries)) == path
            tree.verify_consistency(old, plain.root(entries[:old]), size, root, path)


def altered(path):
    """Every proof that differs in one place, or in length."""
    for place, node in enumerate(path):
        yield (*path[:place], bytes([node[0] ^ 1]) + node[1:], *path[place + 1 :])
        yield (*path[:place], *path[place + 1 :])
    yield (*path, bytes(32))
    yield (bytes(32), *path)


def test_an_altered_proof_an_altered_place_or_another_entry_is_refused():
    for size in (1, 2, 7, 8, 21):
        entries, root = MANY[:size], plain.root(MANY[:size])
        for index in range(size):
            leaf, path = tree.leaf_hash(entries[index]), tree.inclusion_path(index, size, nodes(entries))
            wrong = [(leaf, index, size, other, root) for other in altered(path)]
            wrong += [(leaf, index + 1, size, path, root), (leaf, index - 1, size, path, root)]
            wrong += [(tree.leaf_hash(b"x"), index, size, path, root), (leaf, index, size, path, bytes(32))]
            for arguments in wrong:
                with pytest.raises(VerificationFailed):
                    tree.verify_inclusion(*arguments)


def test_an_altered_history_is_refused():
    for old, new in ((1, 2), (3, 7), (4, 8), (6, 21), (20, 21), (16, 70)):
        before, after = plain.root(MANY[:old]), plain.root(MANY[:new])
        path = tree.consistency_path(old, new, nodes(MANY[:new]))
        for other in altered(path):
            with pytest.raises(VerificationFailed):
                tree.verify_consistency(old, before, new, after, other)
        for arguments in (
            (old, bytes(32), new, after, path),
            (old, before, new, bytes(32), path),
            (new, after, old, before, path),
            (old, before, old, after, ()),
            (0, before, new, after, ()),
        ):
            with pytest.raises(VerificationFailed):
                tree.verify_consistency(*arguments)


def test_a_path_convicts_a_log_that_signed_another_root():
    """Also where the old size is a power of two: the path alone gives the root that the new tree has there."""
    for old in (4, 5):
        forked = [*MANY[: old - 1], b"another", *MANY[old:9]]
        path = tree.consistency_path(old, 9, nodes(forked))
        before, after = tree.roots_from_consistency(old, 9, path)
        assert after == plain.root(forked)
        assert before == plain.root(forked[:old]) != plain.root(MANY[:old])


def test_an_empty_log_is_the_beginning_of_every_log():
    tree.verify_consistency(0, tree.EMPTY, 3, plain.root(MANY[:3]), ())
    tree.verify_consistency(0, tree.EMPTY, 0, tree.EMPTY, ())


@given(st.integers(0, 300))
@settings(max_examples=60)
def test_a_frontier_survives_being_written_down(size):
    frontier = tree.Frontier()
    for number in range(size):
        frontier = frontier.append(tree.leaf_hash(number.to_bytes(2, "big")))
    assert tree.Frontier.decode(size, frontier.encode()) == frontier


def test_damaged_frontiers_are_refused():
    for size, peaks in ((1, b""), (3, bytes(32)), (2, bytes(31)), (-1, b""), (0, bytes(32))):
        with pytest.raises(VerificationFailed):
            tree.Frontier.decode(size, peaks)
