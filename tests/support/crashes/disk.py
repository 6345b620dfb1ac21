"""What is on a disk after a crash: a file system that knows what was written, and what of that has been synced.

Of a file that was never synced, a power cut may leave nothing, or only its name; of a name that was made, moved or
removed since its folder was synced, the old state. A killed process loses nothing that it has handed to the system.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from support.crashes.record import Call, recorded

__all__ = ["Cut", "Disk", "crashes", "record_calls"]


class Cut(StrEnum):
    """How a run ends."""

    KILL = "kill"
    """All that was done is there."""

    POWER = "power cut"
    """What was not synced is not there: neither contents nor names."""

    NAMES_FIRST = "power cut, names first"
    """Names are there, contents that were not synced are not: as on a file system that delays allocation."""

    CONTENTS_FIRST = "power cut, contents first"
    """Contents are there, names that were not synced are not."""


@dataclass
class Disk:
    """Files below a folder.

    Attributes:
        contents, synced: of the files by number, now and as they were last synced.
        names, durable: the files' numbers by path (None: a folder), now and as the folders were last synced.
    """

    contents: dict[int, bytearray] = field(default_factory=dict)
    synced: dict[int, bytes] = field(default_factory=dict)
    names: dict[str, int | None] = field(default_factory=dict)
    durable: dict[str, int | None] = field(default_factory=dict)
    _again: dict[int, int] = field(default_factory=dict)
    """Ours of the system's numbers that it has given to a second file."""

    @classmethod
    def of(cls, folder: Path) -> "Disk":
        """Return what lies in a folder, all of it synced."""
        disk = cls()
        for path in sorted(folder.rglob("*")):
            number = None if path.is_dir() else path.stat().st_ino
            disk.names[str(path)] = number
            if number is not None:
                disk.contents[number] = bytearray(path.read_bytes())
                disk.synced[number] = bytes(disk.contents[number])
        disk.durable = dict(disk.names)
        return disk

    def do(self, call: Call) -> None:
        """Carry out a call."""
        if call.kind == "create" and call.number in self.contents:
            self._again[call.number] = -len(self.contents)
        number = self._again.get(call.number, call.number)
        match call.kind:
            case "create":
                self.contents[number], self.synced[number] = bytearray(), b""
                if call.path:
                    self.names[call.path] = number
            case "write":
                content = self.contents[number]
                content.extend(bytes(max(0, call.place - len(content))))
                content[call.place : call.place + len(call.content)] = call.content
            case "truncate":
                content = self.contents[number]
                content.extend(bytes(max(0, call.place - len(content))))
                del content[call.place :]
            case "sync":
                self.synced[number] = bytes(self.contents[number])
            case "sync folder":
                self._sync_folder(call.path)
            case "rename":
                assert number in self.contents, "a folder was renamed"
                self.names.pop(call.source, None)
                self.names[call.path] = number
            case "link":
                self.names[call.path] = number
            case "unlink" | "rmdir":
                self.names.pop(call.path, None)
            case "mkdir":
                self.names[call.path] = None

    def _sync_folder(self, folder: str) -> None:
        inside = {path for path in {*self.names, *self.durable} if str(Path(path).parent) == folder}
        for path in inside:
            if path in self.names:
                self.durable[path] = self.names[path]
            else:
                del self.durable[path]

    def write(self, cut: Cut, was: Path, to: Path) -> None:
        """Write what a crash leaves of the files in `was` to another folder."""
        names = self.names if cut in (Cut.KILL, Cut.NAMES_FIRST) else self.durable
        contents = self.contents if cut in (Cut.KILL, Cut.CONTENTS_FIRST) else self.synced
        to.mkdir(parents=True, mode=0o700)
        for path in sorted(names):
            place, number = to / Path(path).relative_to(was), names[path]
            if not place.parent.is_dir():
                continue  # its folder's own name was lost
            if number is None:
                place.mkdir(mode=0o700)
            else:
                place.write_bytes(contents[number])
                place.chmod(0o600)

    def state(self, cut: Cut) -> object:
        """Return something that is equal for equal states."""
        names = self.names if cut in (Cut.KILL, Cut.NAMES_FIRST) else self.durable
        contents = self.contents if cut in (Cut.KILL, Cut.CONTENTS_FIRST) else self.synced
        return tuple((path, None if n is None else bytes(contents[n])) for path, n in sorted(names.items()))


def record_calls(folder: Path, module: str, *arguments: str) -> tuple[Disk, list[Call]]:
    """Return what lies in a folder, and what `module.main(folder, *arguments)` then does to it.

    The record must be all that is done: what it makes of the disk is compared with the folder.
    """
    before = Disk.of(folder)
    calls, after = recorded(folder, module, *arguments), copy.deepcopy(before)
    for call in calls:
        after.do(call)
    assert after.state(Cut.KILL) == Disk.of(folder).state(Cut.KILL), "something was done that is not recorded"
    return before, calls


def crashes(
    before: Disk, calls: Sequence[Call], cuts: Sequence[Cut] = tuple(Cut)
) -> Iterator[tuple[int, Cut, Disk, list[str]]]:
    """Yield every state that a crash may leave, once: after how many calls, how, the disk, and the marks by then."""
    disk, seen, marks = copy.deepcopy(before), set[object](), list[str]()
    for count in range(len(calls) + 1):
        for cut in cuts:
            state = hash((disk.state(cut), len(marks)))
            if state not in seen:
                seen.add(state)
                yield count, cut, disk, list(marks)
        if count < len(calls):
            disk.do(calls[count])
            if calls[count].kind == "mark":
                marks.append(calls[count].path)
