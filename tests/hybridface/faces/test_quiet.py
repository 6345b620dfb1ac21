"""Silence around a decoder, and only there."""

import os
import subprocess
import sys
import threading
import warnings

import pytest

from hybridface.faces.quiet import quietly


def test_warnings_and_descriptor_2_are_silent_inside_only(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quietly(c_library=True):
            warnings.warn("from a decoder", stacklevel=1)
            os.write(2, b"from a C library\n")
        os.write(2, b"from us\n")
        with pytest.raises(UserWarning, match="from us"):
            warnings.warn("from us", stacklevel=1)
    assert capfd.readouterr().err == "from us\n"


def test_descriptor_2_is_left_alone_for_other_decoders(capfd: pytest.CaptureFixture[str]) -> None:
    with quietly():
        os.write(2, b"from another thread\n")
    assert capfd.readouterr().err == "from another thread\n"


def test_an_error_ends_the_silence(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), quietly(c_library=True):
        raise ValueError("broken")
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"


def test_one_photo_at_a_time() -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        with quietly():
            inside += 1
            most = max(most, inside)
            threading.Event().wait(0.02)
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


@pytest.mark.slow
def test_a_closed_descriptor_2() -> None:
    program = (
        "import os; os.close(2)\n"
        "from hybridface.faces.quiet import quietly\n"
        "with quietly(c_library=True): print('done')"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "done\n"
