"""A federation founded with the commands that its people type: three officers, a lead, a roll."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.unit.client.typed import Said, concord, done

MEMBERS = {"br": "BR", "in": "IN", "ke": "KE"}


@dataclass(frozen=True, slots=True)
class Cast:
    folder: Path

    def home(self, who: str) -> Path:
        return self.folder / f"home-{who}"

    def card(self, who: str) -> Path:
        return self.folder / f"{who}.json"

    @property
    def roll(self) -> Path:
        return self.folder / "roll.json"

    def member(self, who: str, jurisdiction: str = "FR") -> Said:
        words = ("--home", self.home(who), "--id", who, "--name", f"Laboratory {who}", "--jurisdiction", jurisdiction)
        return concord("member", "init", *words, "--out", self.card(who))

    def lead(self, who: str, member: str) -> Said:
        words = ("--home", self.home(who), "--id", who, "--member", member, "--name", f"Lead {who}")
        return concord("lead", "init", *words, "--out", self.card(who))

    def draft(
        self,
        members: tuple[str, ...] = tuple(MEMBERS),
        leads: tuple[str, ...] = ("ana",),
        version: int = 1,
        log_key: Path | None = None,
    ) -> Said:
        cards = [word for who in members for word in ("--member", self.card(who))]
        cards += [word for who in leads for word in ("--lead", self.card(who))]
        options = ("--federation", "atlas", "--version", str(version), "--out", self.roll)
        named = ("--log-key", log_key) if log_key is not None else ()
        return concord("roll", "draft", *options, *cards, *named)

    def sign(self, who: str, roll: Path | None = None) -> Said:
        return concord("roll", "sign", "--home", self.home(who), "--roll", roll or self.roll)

    def found(self) -> None:
        for who, jurisdiction in MEMBERS.items():
            done(self.member(who, jurisdiction))
        done(self.lead("ana", "br"))
        done(self.draft())
        for who in MEMBERS:
            done(self.sign(who))
