"""Would a letter pass now? Its consumer decodes and writes it in a transaction that is rolled back: nothing stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.batch import Batch, Tally
from pipeline.consumer import Consumer
from pipeline.decode import decode_record
from pipeline.dlq.letters import Letter
from pipeline.dlq.masking import mask_detail
from pipeline.errors import PoisonError
from pipeline.halving import Refused, find_refused
from pipeline.postgres import Connection, Pool, translated
from pipeline.process import Process
from pipeline.trial import find_deadly
from schemas.topics import redrive_topic

# As the runner's own trial of suspects: for one record, in a child, so that what kills it does not kill the tool.
_DECODE_S = 20.0
_DECODE_BYTES = 1024**3


class Verdict(NamedTuple):
    """`passes`: it would be stored, or left out by name (`skipped`). Else reason and detail say why not."""

    letter: Letter
    passes: bool
    skipped: bool = False
    reason: str = ""
    detail: str = ""

    def describe(self, *, masked: bool = True) -> dict[str, Any]:
        """As plain data."""
        detail = mask_detail(self.detail) if masked else self.detail
        return {
            "id": self.letter.id, "passes": self.passes, "skipped": self.skipped, "reason": self.reason, "detail": detail,
        }  # fmt: skip


async def try_letters(pool: Pool, process: Process, pairs: Sequence[tuple[Letter, Any]]) -> list[Verdict]:
    """One verdict for each letter, in their order. Raises TransientError.

    The letters are written together, as a batch of the consumer would be, and rows are locked as long as that takes.
    """
    consumer = process.make_consumer(pool)
    deadly = await find_deadly(
        lambda pair: _decode(consumer, pair[1]), pairs, seconds=_DECODE_S, memory_bytes=_DECODE_BYTES
    )  # fmt: skip
    verdicts: list[Verdict] = []
    decoded: list[tuple[int, Any]] = []
    for number, (letter, record) in enumerate(pairs):
        if number in deadly:
            verdicts.append(_refusal(letter, PoisonError("kills_process", "a child that decoded it alone died")))
            continue
        batch = _decode(consumer, record)
        verdicts.append(Verdict(letter, passes=True, skipped=not batch.dead and not batch.facts))
        if batch.dead:
            verdicts[number] = _refusal(letter, batch.dead[0].error)
        decoded += [(number, fact) for fact in batch.facts]
    for refused in await _refused(pool, process, [fact for _, fact in decoded]):
        number = decoded[refused.index][0]
        verdicts[number] = _refusal(verdicts[number].letter, refused.error)
    return verdicts


def _decode(consumer: Consumer[Any], record: Any) -> Batch[Any]:
    batch: Batch[Any] = Batch(epoch=0)
    tally = Tally(record.offset, record.offset + 1)
    decode_record(consumer, record, redrive_topic(consumer.name).name, tally, batch)
    return batch


def _refusal(letter: Letter, error: PoisonError) -> Verdict:
    return Verdict(letter, passes=False, reason=error.reason, detail=error.detail)


async def _refused(pool: Pool, process: Process, facts: Sequence[Any]) -> list[Refused]:
    async with translated(), pool.acquire(timeout=10) as connection:
        outer = connection.transaction()
        await outer.start()
        try:

            async def attempt(chosen: list[int]) -> None:
                await _write(connection, process, [facts[i] for i in chosen])  # type: ignore[arg-type] # pool's proxy

            return await find_refused(len(facts), attempt)
        finally:
            await outer.rollback()


async def _write(connection: Connection, process: Process, facts: list[Any]) -> None:
    """Prepares and writes in a savepoint. The consumer looks its ids up on this very connection, where those it makes
    end with the transaction; hence a new one for each attempt, since it remembers them."""
    async with connection.transaction():
        consumer = process.make_consumer(connection)  # type: ignore[arg-type] # fetches as a pool does
        prepared = await consumer.prepare(facts)
        async with translated():
            await consumer.stage(connection, prepared)
            await consumer.write(connection, prepared)
