"""A recording as a file: MCAP in chunks, each readable without what comes after it."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec
import zstandard
from mcap.exceptions import McapError
from mcap.records import Attachment, Channel, Chunk, Message, Metadata
from mcap.stream_reader import StreamReader, breakup_chunk
from mcap.writer import MCAP0_MAGIC, CompressionType, Writer

from aerial_runtime import __version__
from aerial_runtime.errors import InputError
from aerial_runtime.record_messages import TOPICS

FLIGHT: Final = "aerial.flight"  # name of the metadata
CARD_NAME: Final = "{role}.card.json"  # of the attachments
CHUNK_BYTES: Final = 4 << 20  # a viewer loads whole chunks
MESSAGE_BYTES: Final = 31  # of a message beside its data
SUMMARY_BYTES: Final = 64 << 10  # at the end of the file: schemas, statistics; and for each chunk:
CHUNK_INDEX_BYTES: Final = 256
MAX_RECORD_BYTES: Final = 1 << 30  # of what is read: more is damage
# What damaged bytes raise: of the records, of compressed chunks, of text, of lengths, of checksums.
DAMAGE = (McapError, struct.error, ValueError, zstandard.ZstdError, RuntimeError, MemoryError, OverflowError)


class _Pieces:
    """What the MCAP writer writes to: keeps it until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._taken = self._waiting = 0

    def write(self, data: bytes) -> int:
        self._pieces.append(data)
        self._waiting += len(data)
        return len(data)

    def tell(self) -> int:
        return self._taken + self._waiting

    def flush(self) -> None:
        """Nothing is behind it."""

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces, self._taken, self._waiting = [], self._taken + self._waiting, 0
        return data


class RecordingWriter:
    """Messages -> the bytes of an MCAP file, for whoever puts them on a disk. For one thread."""

    def __init__(self, about: Mapping[str, str], cards: Mapping[str, str]) -> None:
        """Begin. about: goes into the metadata. cards: role -> a model's card as JSON."""
        self._pieces = _Pieces()
        self._writer = Writer(cast(IO[bytes], self._pieces), CHUNK_BYTES, CompressionType.ZSTD)
        self._writer.start(library=f"aerial {__version__}")
        self._chunks = self._open_bytes = 0
        now_ns = time.time_ns()
        self._writer.add_metadata(FLIGHT, dict(about))
        for role, card in cards.items():
            name = CARD_NAME.format(role=role)
            self._writer.add_attachment(now_ns, now_ns, name, "application/json", card.encode())
        self._channels = {topic: self._channel(topic) for topic in TOPICS}

    def _channel(self, topic: str) -> int:
        name, schema = TOPICS[topic]
        schema_id = self._writer.register_schema(name, "jsonschema", msgspec.json.encode(schema))
        return self._writer.register_channel(topic, "json", schema_id)

    def add(self, topic: str, utc_ns: int, data: bytes, sequence: int) -> None:
        """Add a message. utc_ns: when it was, 0 or later."""
        self._open_bytes += MESSAGE_BYTES + len(data)
        self._writer.add_message(self._channels[topic], utc_ns, data, utc_ns, sequence)

    def close_chunk(self) -> bytes:
        """Return the bytes since the last time, which end with a whole chunk."""
        self._writer.flush()  # type: ignore[no-untyped-call]
        self._chunks += 1 + self._open_bytes // CHUNK_BYTES
        self._open_bytes = 0
        return self._pieces.take()

    def finish(self) -> bytes:
        """Return the rest of the file: its summary."""
        self._writer.finish()  # type: ignore[no-untyped-call]
        return self._pieces.take()

    @property
    def is_open(self) -> bool:
        """Whether there is a message that no piece holds yet."""
        return self._open_bytes > 0

    @property
    def size_bytes(self) -> int:
        """Size that the file would have, were it finished now: an upper bound."""
        return self._pieces.tell() + self._open_bytes + SUMMARY_BYTES + CHUNK_INDEX_BYTES * self._chunks


@dataclass
class Recording:
    """A recording that is read. about, cards: what stands at its start, known once the first message was read.

    damaged: chunks that could not be read. Where a record's frame is damaged, or the file ends within one, that counts
    as one, and what comes after it is not found.
    """

    path: Path
    about: dict[str, str] = field(default_factory=dict)
    cards: dict[str, str] = field(default_factory=dict)
    damaged: int = 0

    def messages(self, *topics: str) -> Iterator[tuple[str, bytes]]:
        """Yield topic and payload in the order of writing; where the file was cut, its end is where that was.

        Raises InputError where the file cannot be opened or is no recording.
        """
        channels: dict[int, str] = {}
        for record in self._records():
            if isinstance(record, Channel):
                channels[record.id] = record.topic
            elif isinstance(record, Message) and channels.get(record.channel_id) in topics:
                yield channels[record.channel_id], record.data
            elif isinstance(record, Metadata) and record.name == FLIGHT:
                self.about = record.metadata
            elif isinstance(record, Attachment):
                self.cards[record.name.partition(".")[0]] = record.data.decode(errors="replace")

    def _records(self) -> Iterator[Any]:
        """Yield records without the index at the end, which a file cut short does not have; chunks as their records."""
        try:
            with self.path.open("rb") as file:
                start = file.read(len(MCAP0_MAGIC))
                if not MCAP0_MAGIC.startswith(start):
                    raise InputError(
                        f"{self.path} is no recording; give an MCAP file that aerial-runtime --record wrote"
                    )
                if len(start) < len(MCAP0_MAGIC):  # cut within its first bytes
                    return
                file.seek(0)
                records = StreamReader(file, emit_chunks=True, record_size_limit=MAX_RECORD_BYTES).records
                while (record := self._next(records, file)) is not None:
                    yield from self._opened(record) if isinstance(record, Chunk) else (record,)
        except OSError as error:
            raise InputError(f"cannot read the recording {self.path} ({error.strerror}); check the path") from error

    def _next(self, records: Iterator[Any], file: IO[bytes]) -> Any:
        """Return the next record; None at the end, and, counted, where none can be read."""
        start = file.tell()
        try:
            return next(records, None)
        except DAMAGE:
            self.damaged += start < os.fstat(file.fileno()).st_size  # a killed flight ends with a whole record
            return None

    def _opened(self, chunk: Chunk) -> list[Any]:
        """Return what is in a chunk; nothing, counted, where it is damaged."""
        try:
            return breakup_chunk(chunk, validate_crc=True)
        except DAMAGE:
            self.damaged += 1
            return []
