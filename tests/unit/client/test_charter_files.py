"""A charter's base pack is read where the charter is: what nodes could not follow is put to no vote."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.client.charter_file import read_charter_file
from federation.errors import FederationError, InvalidIdentity, InvalidManifest

CHARTER = "apiVersion: concord/v1\nkind: Charter\nbasePolicyFile: base.yaml\n"
PACK = """\
apiVersion: concord/v1
kind: PolicyPack
metadata: {name: atlas-base, layer: base, serial: 1}
vocabulary: 1
rules:
  minimumCohort: 3
"""


def written(folder: Path, pack: str, charter: str = CHARTER) -> Path:
    (folder / "base.yaml").write_text(pack)
    path = folder / "charter.yaml"
    path.write_text(charter)
    return path


def test_a_good_pack_is_taken_word_for_word(tmp_path: Path) -> None:
    assert read_charter_file(written(tmp_path, PACK)).base_policy == PACK.encode()


@pytest.mark.parametrize(
    ("pack", "kind", "sentence"),
    [
        (PACK.replace("minimumCohort", "minimumCohrt"), InvalidManifest, "base.yaml:6: rules.minimumCohrt"),
        (PACK.replace("layer: base", "layer: national"), InvalidManifest, "its layer is national"),
        (PACK.replace("vocabulary: 1", "vocabulary: 99"), InvalidManifest, "update needed"),
        (PACK + "rules: {}\n", InvalidManifest, "base.yaml:7"),
        (PACK.replace("PolicyPack", "NodePolicy"), InvalidManifest, "base.yaml"),
        ("- 1\n", InvalidManifest, "base.yaml"),
        ("", InvalidIdentity, "empty"),
    ],
    ids=["unknown-word", "another-layer", "newer-words", "said-twice", "another-kind", "a-list", "nothing"],
)
def test_a_bad_pack_is_refused_with_its_file_and_a_sentence(
    tmp_path: Path, pack: str, kind: type[FederationError], sentence: str
) -> None:
    with pytest.raises(kind) as caught:
        read_charter_file(written(tmp_path, pack))
    assert sentence in caught.value.message
    assert str(tmp_path) in caught.value.message


def test_a_pack_inside_the_charter_is_read_too(tmp_path: Path) -> None:
    inside = "kind: Charter\nbasePolicy: |\n" + "".join(f"  {line}\n" for line in PACK.splitlines())
    path = written(tmp_path, "", inside)
    assert read_charter_file(path).base_policy == PACK.encode()
    path.write_text(inside.replace("minimumCohort", "minimumCohrt"))
    with pytest.raises(InvalidManifest, match=r"basePolicy of .*charter\.yaml:6"):
        read_charter_file(path)


def test_two_packs_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(InvalidIdentity, match="both basePolicy and basePolicyFile"):
        read_charter_file(written(tmp_path, PACK, CHARTER + "basePolicy: x\n"))
