"""All laws of a codec."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import pytest

from nuvom.core.ids import valid_name
from nuvom.core.record import JobRecord
from nuvom.errors import NotStorable, PayloadError
from nuvom.serialization.base import MAX_DEPTH, Shaped
from nuvom.testing.conformance.law import Kit, all_at_once
from nuvom.testing.conformance.laws.values import NOT_STORABLE, STORABLE, same

if TYPE_CHECKING:
    from nuvom.serialization.base import Codec

_DAMAGED = 400  # how often bytes are damaged at random


class CodecConformance(Kit):
    """The laws of a codec; subclass it in a test module and write ``make``."""

    contract: ClassVar[str] = "codec"

    def make(self) -> Codec:
        """Return the codec."""
        raise NotImplementedError

    @pytest.fixture
    def codec(self) -> Codec:
        """Give a law a codec."""
        return self.make()

    def test_every_storable_value_comes_back(self, codec: Codec) -> None:
        """A value of any storable type comes back equal, its type and all that is in it."""
        for value in STORABLE:
            result = codec.decode_value(codec.encode_value(value))
            assert same(result, value)

    def test_arguments_come_back(self, codec: Codec) -> None:
        """Positional and keyword arguments come back as a tuple and a dict, in their order."""
        names = {f"key{number}": value for number, value in enumerate(STORABLE)}
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]]
        calls = [((), {}), ((1, "two"), {}), (STORABLE, {}), ((), names)]
        for given in calls:
            args, kwargs = codec.encode_call(*given)
            assert same(codec.decode_call(args, kwargs), given)
            # A record embeds them, so they have to be one MessagePack value each.
            record = JobRecord("job-1", "shop.send", msgspec.Raw(args), msgspec.Raw(kwargs))
            stored = JobRecord.decode(record.encode())
            assert same(codec.decode_call(stored.args, stored.kwargs), given)

    def test_deep_values_come_back(self, codec: Codec) -> None:
        """Containers may stand inside one another as deeply as is promised, and no deeper."""
        ring: list[Any] = []
        ring.append(ring)
        deep: Any = "bottom"
        for _ in range(MAX_DEPTH - 1):
            deep = [deep]
        assert codec.decode_value(codec.encode_value(deep)) == deep
        for _ in range(10_000):
            deep = [deep]
        for value in (ring, deep):
            with pytest.raises(NotStorable):
                codec.encode_value(value)
        for _ in range(10_000):  # taken apart by hand: freeing it at once could overflow the stack
            deep = deep[0]

    def test_shaped_data_is_carried(self, codec: Codec) -> None:
        """The plain data of a user's class comes back where it is asked for, and only there."""
        data = codec.encode_value([Shaped("User", {"name": "Ada", "tags": ("a",)})])
        (result,) = codec.decode_value(data, shaped=True)
        assert isinstance(result, Shaped)
        assert (result.name, result.data) == ("User", {"name": "Ada", "tags": ("a",)})
        with pytest.raises(PayloadError):
            codec.decode_value(data)

    def test_threads_share_a_codec(self, codec: Codec) -> None:
        """One codec serves many threads at once."""

        def work(number: int) -> None:
            for round_ in range(100):
                value = {"n": [number, round_], "all": STORABLE}
                assert codec.decode_value(codec.encode_value(value)) == value

        all_at_once(work, threads=4, limit_secs=60.0)

    def test_other_values_are_refused(self, codec: Codec) -> None:
        """A value that would not come back as it was raises NotStorable when it is encoded."""
        for value in NOT_STORABLE:
            with pytest.raises(NotStorable):
                codec.encode_value(value)
            with pytest.raises(NotStorable):
                codec.encode_call((1, [value]), {})

    def test_damaged_bytes_are_recognised(self, codec: Codec) -> None:
        """Damaged bytes raise PayloadError or give some value; nothing else is ever raised."""
        rng = Random(20250601)  # noqa: S311  # no secret
        values = [codec.encode_value(value) for value in (list(STORABLE), {"a": STORABLE}, 2**70)]
        for round_ in range(_DAMAGED):
            data = bytearray(values[round_ % len(values)])
            for _ in range(rng.randrange(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            damaged = bytes(data[: rng.randrange(len(data) + 1)])
            with suppress(PayloadError):
                codec.decode_value(damaged)
            with suppress(PayloadError):
                codec.decode_call(damaged, damaged)

    def test_foreign_bytes_are_refused(self, codec: Codec) -> None:
        """Bytes that no codec of ours wrote raise PayloadError."""
        pickled = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94."
        nested = b"\x91" * 100_000 + b"\xc0"
        foreign = b"\xd4\x63\x00"  # an extension type that is not ours
        for data in (b"", b"\xc1", pickled, nested, foreign, codec.encode_value(1) + b"\x00"):
            with pytest.raises(PayloadError):
                codec.decode_value(data)

    def test_a_codec_has_a_name(self, codec: Codec) -> None:
        """A codec's name can be used in the settings."""
        valid_name("codec", codec.name)
