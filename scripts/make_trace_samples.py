"""Makes the sample traces of profiles/traces: small, invented, in the formats of the published ones.

    python scripts/make_trace_samples.py           writes them
    python scripts/make_trace_samples.py --check   compares with the files; exits with 1 when one differs

Each covers a minute. Lengths and gaps are drawn from a seeded generator; nothing is taken from a published trace.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "profiles" / "traces"
SPAN_S = 60.0
BLOCK_TOKENS = 512


def times_s(stream: np.random.Generator, count: int, shape: float) -> list[float]:
    """`count` times in `[0, SPAN_S)`, the first 0; gaps are gamma distributed, the burstier the smaller the shape."""
    gaps = stream.gamma(shape, 1 / shape, count)
    times = np.concatenate([[0.0], np.cumsum(gaps)[:-1]])
    return [float(time) for time in times * (SPAN_S / gaps.sum())]


def lengths(stream: np.random.Generator, count: int, median: float, sigma: float, most: int) -> list[int]:
    """Log-normal lengths in tokens, from 1 to `most`."""
    drawn = np.rint(stream.lognormal(np.log(median), sigma, count))
    return [int(length) for length in np.clip(drawn, 1, most)]


def azure() -> str:
    """Bursty, long prompts and short answers; CRLF and seven digits of a second, as in 2023's files."""
    stream = np.random.default_rng(2023)
    count = 120
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for time_s, tokens, answer in zip(
        times_s(stream, count, 0.5),
        lengths(stream, count, 600, 0.8, 4000),
        lengths(stream, count, 40, 0.9, 400),
        strict=True,
    ):
        ticks = round(time_s * 1e7)
        second, fraction = divmod(ticks, 10**7)
        lines.append(f"2023-11-16 18:{17 + second // 60:02d}:{second % 60:02d}.{fraction:07d},{tokens},{answer}")
    return "\r\n".join([*lines, ""])


def burstgpt() -> str:
    """Conversations with a session and requests over the API without one, of two models; some fail."""
    stream = np.random.default_rng(2024)
    count = 110
    sessions = [str(uuid.UUID(bytes=stream.bytes(16), version=4)) for _ in range(12)]
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    header = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type"
    rows.writerow(header.split(","))
    for time_s, tokens, answer in zip(
        times_s(stream, count, 1.0),
        lengths(stream, count, 300, 0.9, 3000),
        lengths(stream, count, 120, 0.8, 800),
        strict=True,
    ):
        chat = stream.random() < 0.6
        session = sessions[int(stream.integers(len(sessions)))] if chat else ""
        model = "GPT-4" if stream.random() < 0.3 else "ChatGPT"
        failed = stream.random() < 0.08
        answer = 0 if failed else answer
        elapsed_s = 1 if failed else 1 + answer // 25
        kind = "Conversation log" if chat else "API log"
        rows.writerow([f"{86400 + int(time_s)}.0", session, elapsed_s, model, tokens, answer, tokens + answer, kind])
    return out.getvalue()


def mooncake() -> str:
    """Prompts behind three system prompts of one or two blocks, some of them continued; ids count upwards."""
    stream = np.random.default_rng(2025)
    count = 60
    prefixes: list[list[int]] = [[0], [1, 2], [3]]
    new_id = 4
    lines = []
    for time_s, own_tokens, answer in zip(
        times_s(stream, count, 1.0),
        lengths(stream, count, 700, 0.7, 2500),
        lengths(stream, count, 80, 0.7, 300),
        strict=True,
    ):
        prefix = prefixes[int(stream.integers(len(prefixes)))]
        own_blocks = -(-own_tokens // BLOCK_TOKENS)
        hash_ids = prefix + list(range(new_id, new_id + own_blocks))
        new_id += own_blocks
        full = hash_ids[: len(prefix) + own_tokens // BLOCK_TOKENS]
        if len(prefix) < len(full) <= 4 and stream.random() < 0.4:
            prefixes.append(full)  # a later turn begins with all the full blocks of this one
        row = {
            "timestamp": round(time_s * 1000),
            "input_length": len(prefix) * BLOCK_TOKENS + own_tokens,
            "output_length": answer,
            "hash_ids": hash_ids,
        }
        lines.append(json.dumps(row))
    return "\n".join([*lines, ""])


# Who speaks, and what is said.
CONVERSATIONS: list[list[tuple[str, str]]] = [
    [
        ("human", "How do I keep basil alive on a kitchen window?"),
        ("gpt", "Give it at least six hours of light, water when the top of the soil is dry, and pick from the top."),
        ("human", "Mine has black spots on its leaves."),
        ("gpt", "That is most often cold or wet leaves. Move it away from the glass at night and water the soil only."),
    ],
    [
        ("system", "You answer in one short sentence."),
        ("human", "What is the difference between latency and throughput?"),
        ("gpt", "Latency is how long one request takes, throughput how many are done in a given time."),
        ("human", "Can I raise one without the other?"),
        ("gpt", "Yes: larger batches raise throughput and usually make each request slower."),
        ("human", "And the other way round?"),
        ("gpt", "Serving each request alone keeps latency low, at the price of an idle machine."),
    ],
    [
        ("human", "Write a function that tells whether a year is a leap year."),
        ("gpt", "def is_leap(year):\n    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)"),
        ("human", "Now give me the number of days of a month."),
        (
            "gpt",
            "import calendar\n\n\ndef days(year, month):\n    return calendar.monthrange(year, month)[1]\n\n"
            "The standard library knows leap years, so the first function is not needed for it.",
        ),
    ],
    [
        ("human", "Suggest three names for a small bakery by a river."),
        ("gpt", "Millrace Bread, The Floating Loaf, and Bank & Crumb."),
        ("human", "The second one, but shorter."),
        ("gpt", "Floatloaf."),
    ],
    [
        ("system", "You are a patient tutor of mathematics."),
        ("human", "Why can't I divide by zero?"),
        (
            "gpt",
            "Division asks which number, multiplied by the divisor, gives the dividend. Nothing multiplied by zero "
            "gives six, so six divided by zero has no answer; and everything multiplied by zero gives zero, so zero "
            "divided by zero has too many.",
        ),
        ("human", "But the limit of one over x grows without end, doesn't it?"),
        ("gpt", "From the right it does, from the left it falls without end. The two sides do not meet."),
    ],
    [
        ("human", "Translate into French: The last train leaves at ten past eleven."),
        ("gpt", "Le dernier train part à onze heures dix."),
        ("human", "And into Spanish?"),
        ("gpt", "El último tren sale a las once y diez."),
    ],
    [
        ("human", "Summarise in one line: the pump failed twice in March, both times after the filter was changed."),
        ("gpt", "Both pump failures in March followed a change of filter."),
        ("human", "What should be checked first?"),
        (
            "gpt",
            "Whether the new filters have the right size and were seated well, as both failures have them in common.",
        ),
    ],
    [
        ("human", "My script prints nothing when its output goes into a file until it ends. Why?"),
        (
            "gpt",
            "Output to a terminal is written line by line, output to a file in large blocks. Flush after each line, "
            "or start Python with -u.",
        ),
        ("human", "Does that make it slower?"),
        (
            "gpt",
            "A little, as each line becomes a call to the system. For a log of a few lines a second it is nothing.",
        ),
    ],
    [
        ("human", "Plan a rainy Sunday for two children of six and nine."),
        (
            "gpt",
            "Morning: bake flatbread, the younger kneads and the older weighs. Noon: eat it with soup. Afternoon: "
            "build a marble run from cardboard, then read aloud, a chapter chosen by each.",
        ),
        ("human", "We have no cardboard."),
        (
            "gpt",
            "Then make the run from books and rulers; it has to be taken down again for reading, which is a good end.",
        ),
    ],
    [
        ("human", "Is this sentence correct: Neither of the answers are right."),
        ("gpt", "In formal English the verb agrees with neither: Neither of the answers is right."),
        ("human", "People say are all the time."),
        ("gpt", "They do, and in speech it passes unnoticed; in writing some readers will stop at it."),
    ],
    [
        ("system", "You help people on the telephone of a town library. Be friendly and brief."),
        ("human", "Can I renew a book that somebody else is waiting for?"),
        ("gpt", "I'm afraid not, but we can put you on the list right behind that reader."),
        ("human", "How long would that take?"),
        ("gpt", "A loan lasts three weeks, so at most three weeks from the day the other reader collects it."),
    ],
    [
        ("human", "Are you still there?"),
    ],
]


def sharegpt() -> str:
    """Conversations of two and more turns, three with a system text, and one without an answer."""
    entries = [
        {"id": f"sample-{i:02d}", "conversations": [{"from": who, "value": text} for who, text in conversation]}
        for i, conversation in enumerate(CONVERSATIONS)
    ]
    return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"


SAMPLES: dict[str, Callable[[], str]] = {
    "azure_sample.csv": azure,
    "burstgpt_sample.csv": burstgpt,
    "mooncake_sample.jsonl": mooncake,
    "sharegpt_sample.json": sharegpt,
}


def main() -> int:
    """Writes or compares; returns the exit status."""
    parser = argparse.ArgumentParser(description="Makes the sample traces.")
    parser.add_argument("--check", action="store_true", help="compare with the files instead of writing them")
    arguments = parser.parse_args()
    status = 0
    for name, make in SAMPLES.items():
        path = FOLDER / name
        content = make().encode()
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            print(f"wrote {path.relative_to(ROOT)}")
        elif not path.exists() or path.read_bytes() != content:
            print(f"{path.relative_to(ROOT)} differs: run python scripts/make_trace_samples.py", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
