"""Claims as they are kept: in `claims.json`, and from several of those in one document."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analyses.studies.claims import LEVEL, Tested
from analyses.studies.plan import Graph
from landscape.claim import Claim
from landscape.errors import InputError


def as_json(graph: Graph, tested: Sequence[Tested], shown: Sequence[Claim], command: str) -> str:
    """What `claims.json` holds; numbers that are not finite are null.

    Args:
        graph: The graph.
        tested: Claims that the study tested.
        shown: All claims as the report shows them, the tested ones first.
        command: Command that makes the study.

    Returns:
        JSON.
    """
    numbers: list[dict[str, Any]] = [_numbers(each) for each in tested]
    numbers += [{} for _ in shown[len(tested) :]]
    rows = [
        {"text": c.text, "place": c.place, "claimed": c.claimed, "found": c.found, "detail": c.detail,
         "verdict": c.verdict, **more}
        for c, more in zip(shown, numbers, strict=True)
    ]  # fmt: skip
    told = {
        "study": graph.study.name, "title": graph.study.title, "reproduces": graph.study.reproduces,
        "scale": graph.scale.name, "scaled_down": graph.scale.text,
        "set": {key: value for key, value in graph.overrides.items() if key != "data"},
        "seeds": graph.seeds, "level": LEVEL,
        "correction": "Holm", "command": command, "claims": rows,
    }  # fmt: skip
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def _numbers(tested: Tested) -> dict[str, Any]:
    def finite(value: float) -> float | None:
        return value if math.isfinite(value) else None

    mean, claim = tested.mean, tested.claim
    return {
        "id": claim.id, "problem": tested.network, "quantity": claim.quantity, "test": claim.test,
        "values": [finite(float(v)) for v in tested.values], "mean": finite(mean.value), "low": finite(mean.low),
        "high": finite(mean.high), "spread": finite(mean.spread), "p": finite(tested.p),
        "corrected_p": finite(tested.corrected), "seeds_needed": tested.seeds_needed, "missing": tested.missing,
    }  # fmt: skip


def document(paths: Sequence[Path]) -> str:
    """One Markdown page of the claims of several studies.

    Args:
        paths: Their `claims.json`.

    Returns:
        The page.

    Raises:
        InputError: If a file is not one.
    """
    parts = [_HEAD]
    counts: dict[str, int] = {}
    for path in paths:
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            parts.append(_section(told))
            for claim in told["claims"]:
                word = claim["verdict"].partition(":")[0]
                counts[word] = counts.get(word, 0) + 1
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is no claims.json: {error}", "run landscape study again") from error
    total = ", ".join(f"*{word}* {n}" for word, n in sorted(counts.items()))
    parts.insert(1, f"{sum(counts.values())} claims: {total}.\n")
    return "\n".join(parts)


_HEAD = """# Claims

What the sources claim, beside what the studies of this toolkit found. This page is written by
`landscape claims DIR... --write docs/claims.md` from the `claims.json` of studies that were run.

The unit is the training seed, differences are paired within it, intervals are 95 % each. The p-values of one study are
corrected together by Holm's rule. A claim that was tested at a smaller scale than its source's is tested there: what
does not hold on digits may hold on CIFAR.
"""


def _section(told: dict[str, Any]) -> str:
    words = shlex.split(told["command"])
    if "--out" in words:
        words[words.index("--out") + 1] = "DIR"  # where it was made is nobody's business
    command = " ".join(word for word in words if not word.startswith("data="))
    apart = "".join(f" But with {key} = {value}." for key, value in told["set"].items())
    lines = [
        f"## {told['title']}\n",
        f"Re-runs {told['reproduces']}. Scale *{told['scale']}*, {told['seeds']} "
        f"{'seeds' if told['seeds'] > 1 else 'seed'}: {told['scaled_down']}{apart}\n",
        f"`{command.replace(' --set --', ' --')}`\n",
        "| claim | where | claimed | found | verdict |",
        "|---|---|---|---|---|",
    ]
    for c in told["claims"]:
        found = f"{c['found']}; {c['detail']}" if c["detail"] else c["found"]
        cells = (c["text"], c["place"], c["claimed"], found, f"**{c['verdict']}**")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
