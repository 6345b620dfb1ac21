"""The list of deliberate faults fits the code: `make test-faults` makes them, and takes its time."""

import re

from faults.run import read_faults
from support.paths import ROOT

LEAST = 60


def test_every_fault_has_its_place_in_the_code_and_its_tests() -> None:
    faults = read_faults()
    assert len(faults) >= LEAST
    assert len({fault.name for fault in faults}) == len(faults)
    for fault in faults:
        assert (ROOT / fault.file).read_text().count(fault.old) == 1, fault.name
        assert fault.old != fault.new, fault.name
        for test in fault.tests:
            file, _, name = test.partition("::")
            assert (ROOT / file).exists(), fault.name
            assert re.search(rf"\b{name.split('[')[0]}\b", (ROOT / file).read_text()), fault.name
