"""Import CrypTen on a current torch.

CrypTen imports a module that torch no longer has, to register ONNX operators that nothing here uses. An empty module
in its place is enough. This project imports everything of CrypTen from here.
"""

import sys
import types

sys.modules.setdefault("torch.onnx.symbolic_registry", types.ModuleType("torch.onnx.symbolic_registry"))

import crypten  # noqa: E402
import crypten.communicator  # noqa: E402
import crypten.mpc  # noqa: E402
from crypten.communicator import Communicator  # noqa: E402
from crypten.mpc.primitives import ArithmeticSharedTensor, BinarySharedTensor, beaver  # noqa: E402
from crypten.mpc.provider.provider import TupleProvider  # noqa: E402

__all__ = ["ArithmeticSharedTensor", "BinarySharedTensor", "Communicator", "TupleProvider", "beaver", "crypten"]
