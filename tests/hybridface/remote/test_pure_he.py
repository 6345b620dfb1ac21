"""Pure-HE mode with a remote server, from Python."""

import inspect
from pathlib import Path

import numpy as np
import pytest

import hybridface as hf
from hybridface.local.pure_he import LocalPureHeSession
from hybridface.modes import Mode
from hybridface.remote.pure_he import RemotePureHeSession
from support.remote_server import NAME, serving

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:match. first use")]


def test_a_session_compares_and_enrols(tmp_path: Path) -> None:
    size = hf.load_model("patchnet", weights=False).chip_size
    chips = np.random.default_rng(1).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    with serving(tmp_path, "patchnet", mode=Mode.PURE_HE) as server:
        with hf.connect(NAME, "pure-he", identity=server.identity, max_answers=2) as session:
            assert isinstance(session, RemotePureHeSession)
            template = session.enroll(chips[0], "Ann")
            assert session.verify(chips[0], template).match is True
            with pytest.raises(hf.ImageError, match="none.png"):
                session.verify(tmp_path / "none.png", template)
        with hf.connect(NAME, identity=server.identity) as hybrid:
            with pytest.raises(hf.QueryRefusedError, match="'patchnet' does not run in hybrid mode here"):
                hybrid.verify(chips[0], chips[1])
        assert (server.sessions, server.errors) == (1, [])


def test_only_patch_networks_can(tmp_path: Path) -> None:
    chip = np.zeros((16, 16, 3), dtype=np.uint8)
    with serving(tmp_path, "tiny-test") as server, hf.connect(NAME, "pure-he", identity=server.identity) as session:
        with pytest.raises(hf.ModelError, match="expected a patch network"):
            session.verify(chip, chip)
        assert server.sessions == 0


def test_the_methods_are_those_of_a_session_within_one_process() -> None:
    for name in ("verify", "enroll"):
        here, remote = (inspect.signature(getattr(one, name)) for one in (LocalPureHeSession, RemotePureHeSession))
        assert here == remote, name
