"""Tests of the log lines that are kept."""

from __future__ import annotations

import asyncio
import logging

import pytest

from base.errors import Full
from runtime.supervisor.host import log_buffer
from runtime.supervisor.host.log_buffer import (
    READER_MAX_BYTES,
    READERS_MAX,
    SOURCE_MAX_BYTES,
    SOURCES_MAX,
    LogBuffer,
    LogLine,
    is_about_model,
)

EVERY = bool  # each line is true


def told(book: LogBuffer, text: str, source: str = "tiny 0.1.0") -> None:
    record = logging.LogRecord("runtime", logging.INFO, "", 0, "%s", (text,), None)
    record.source, record.pid, record.said = source, 7, text
    book.handle(record)


def texts(lines: list[LogLine]) -> list[str]:
    return [line.text for line in lines]


def test_lines_of_all_sources_come_in_their_order() -> None:
    """With a limit, the last lines come."""
    book = LogBuffer()
    for number in range(6):
        told(book, str(number), f"m{number % 2} 0.1.0")
    assert texts(book.last_lines(100, EVERY)) == ["0", "1", "2", "3", "4", "5"]
    assert texts(book.last_lines(2, EVERY)) == ["4", "5"]
    assert texts(book.last_lines(2, lambda line: is_about_model(line, "m0"))) == ["2", "4"]
    assert book.last_lines(0, EVERY) == []


def test_a_source_that_logs_much_pushes_out_no_other_lines() -> None:
    """Each source has a limit of its own."""
    book = LogBuffer()
    told(book, "quiet", "quiet 0.1.0")
    for number in range(10_000):
        told(book, f"{number} {'x' * 1000}")
    kept = book.last_lines(100_000, EVERY)
    assert kept[0].text == "quiet"
    assert kept[-1].text.startswith("9999 ")
    assert sum(line.size_bytes for line in kept) <= SOURCE_MAX_BYTES + kept[0].size_bytes


def test_of_too_many_sources_the_one_that_was_silent_for_longest_is_forgotten() -> None:
    """Releases come and go for ever."""
    book = LogBuffer()
    for number in range(SOURCES_MAX + 1):
        told(book, "first", f"m{number} 0.1.0")
        told(book, "again", "m0 0.1.0")
    sources = {line.source for line in book.last_lines(100_000, EVERY)}
    assert len(sources) == SOURCES_MAX
    assert "m0 0.1.0" in sources
    assert "m1 0.1.0" not in sources


def test_a_line_is_about_a_model_by_any_spelling_of_its_name_and_of_no_other() -> None:
    """Lines of the supervisor about its releases and files count too."""

    def about(source: str, text: str = "") -> bool:
        return is_about_model(LogLine("", source, 1, "info", text), "My.Model")

    assert about("my-model 0.1.0")
    assert about("supervisor", "my_model 0.1.0: ready at /")
    assert about("supervisor", "my_model-0.1.0.pex: found")
    assert about("supervisor", "my-model: pinned to 0.1.0")
    assert not about("my-model-two 0.1.0")
    assert not about("supervisor", "my-model-two 0.1.0: ready")
    assert not about("supervisor", "another: my-model 0.1.0")
    assert not about("front door", "my-model")


def test_a_reader_that_does_not_keep_up_is_lost_and_its_lines_are_let_go() -> None:
    """Others go on; whoever leaves makes room."""

    async def run() -> None:
        book = LogBuffer()
        with book.follow(10, EVERY) as (_, slow), book.follow(10, EVERY) as (before, quick):
            assert before == []
            for _ in range(READER_MAX_BYTES // 1000 + 10):
                told(book, "x" * 1000)
                assert len(await quick.wait_lines()) == 1
            assert slow.lost.is_set()
            assert not quick.lost.is_set()

    asyncio.run(run())


def test_the_number_of_readers_is_limited() -> None:
    """The next reader gets an error."""

    async def run() -> None:
        book = LogBuffer()
        readers = [book.follow(0, EVERY) for _ in range(READERS_MAX)]
        for reader in readers:
            reader.__enter__()
        with pytest.raises(Full), book.follow(0, EVERY):
            pass
        readers[0].__exit__(None, None, None)
        with book.follow(0, EVERY):
            pass

    asyncio.run(run())


def test_an_exception_is_kept_with_its_traceback_and_levels_are_restored() -> None:
    """The traceback is that of the log."""
    logger = logging.getLogger("runtime.test")
    before = logging.getLogger("runtime").level
    with log_buffer.capture_logs() as book:
        try:
            raise ValueError("this one")
        except ValueError:
            logger.exception("it failed")
        logger.info("said")
        logging.getLogger("somebody.else").error("not ours")
    kept = texts(book.last_lines(100, EVERY))
    assert kept[0] == "it failed"
    assert kept[-2:] == ["ValueError: this one", "said"]
    assert logging.getLogger("runtime").level == before
    logger.info("afterwards")
    assert "afterwards" not in texts(book.last_lines(100, EVERY))
