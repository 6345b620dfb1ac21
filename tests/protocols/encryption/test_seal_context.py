"""SEAL's contexts and objects: what both encryptions ask it for, and what they read from it."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import tenseal.sealapi as seal

from protocols.encryption.bfv.context import BfvParameters
from protocols.encryption.ckks import CkksContext, CkksParameters
from protocols.encryption.seal_context import MOST_BITS, LatticeParameters, seal_context
from protocols.encryption.seal_format import ciphertext_from_words, ciphertext_words, plaintext_words
from protocols.errors import ParameterError, ProtocolError
from protocols.pure_he import PureHeContext, PureHeParameters


@dataclass(frozen=True)
class Parameters:
    degree: int
    prime_bits: list[int]


@pytest.mark.parametrize(("degree", "most"), [(4096, 106), (8192, 214), (16384, 430), (32768, 868)])
def test_the_bound_of_128_bits_is_the_guidelines(degree: int, most: int) -> None:
    """The table of ePrint 2024/463, to the bit."""
    assert MOST_BITS[degree] == most
    parts = -(-most // 55)
    fitting = [most // parts + (i < most % parts) for i in range(parts)]
    context, primes = seal_context(Parameters(degree, fitting))
    assert context.parameters_set()
    assert [prime.bit_length() for prime in primes] == fitting
    assert all(prime % (2 * degree) == 1 for prime in primes)
    with pytest.raises(ParameterError, match=rf"^cannot use Parameters\(.* at 128 bits.* {most} bits.*got {most + 1}$"):
        seal_context(Parameters(degree, [*fitting[:-1], fitting[-1] + 1]))


EVERY_SET = {
    "linear layers": CkksParameters(),
    "products": BfvParameters(),
    "pure HE by default": PureHeParameters(),
    **{f"pure HE, {squares} squares": PureHeParameters.for_squares(squares) for squares in range(1, 15)},
}


@pytest.mark.parametrize("name", EVERY_SET)
def test_every_parameter_set_is_within_the_guidelines(name: str) -> None:
    """Bits of all primes that SEAL chose, the one of key switching among them."""
    parameters: LatticeParameters = EVERY_SET[name]
    primes = seal.CoeffModulus.Create(parameters.degree, list(parameters.prime_bits))
    assert math.prod(int(prime.value()) for prime in primes).bit_length() <= MOST_BITS[parameters.degree]


def test_what_seal_does_not_take_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"^SEAL refuses Parameters\("):
        seal_context(Parameters(4096, [61, 40]))


@pytest.mark.parametrize("degree", [0, 1, 512, 4095, 65536])
def test_a_degree_that_is_not_in_the_table(degree: int) -> None:
    with pytest.raises(ParameterError, match=r"^cannot use Parameters\(.*: expected a degree among \[1024, "):
        seal_context(Parameters(degree, [40, 40, 20]))


def test_both_encryptions_name_their_parameters_in_the_error() -> None:
    with pytest.raises(ParameterError, match=r"^cannot use CkksParameters\(degree=4096, .* at 128 bits"):
        CkksContext(CkksParameters(prime_bits=(60, 47)))
    with pytest.raises(ParameterError, match=r"^cannot use PureHeParameters\(degree=8192, .* at 128 bits"):
        PureHeContext(PureHeParameters(degree=8192))


def test_words_are_what_seal_decrypts() -> None:
    """A ciphertext goes out to words and comes back; a secret key's words decrypt it without SEAL, modulo its prime."""
    context, primes = seal_context(Parameters(4096, [50, 50]))
    generator = seal.KeyGenerator(context)
    encoder, plain, ciphertext = seal.CKKSEncoder(context), seal.Plaintext(), seal.Ciphertext()
    encoder.encode([1.5, -2.0], context.first_parms_id(), 2.0**30, plain)
    seal.Encryptor(context, generator.secret_key()).encrypt_symmetric(plain, ciphertext)
    words = ciphertext_words(ciphertext, 4096)
    assert words.shape == (2, 1, 4096)

    again, opened = ciphertext_from_words(context, context.first_parms_id(), words, 2.0**30), seal.Plaintext()
    seal.Decryptor(context, generator.secret_key()).decrypt(again, opened)
    assert np.allclose(encoder.decode_double(opened)[:2], [1.5, -2.0], atol=1e-4)

    secret = plaintext_words(generator.secret_key()).reshape(2, 4096)[0]
    (c0,), (c1,) = words
    product = [(int(a) + int(b) * int(s)) % primes[0] for a, b, s in zip(c0, c1, secret, strict=True)]
    assert product == plaintext_words(opened).tolist()

    words = words.copy()
    words[0, 0, 7] = primes[0]
    with pytest.raises(ProtocolError, match=r"^SEAL refuses a Ciphertext: "):
        ciphertext_from_words(context, context.first_parms_id(), words, 2.0**30)
