"""From stored results to the page of a report: nothing is computed again.

Results of one analysis with the same label are runs of one experiment and share a figure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from analyses import REGISTRY, Analysis, evaluate, experiments, named
from analyses.experiments import Experiment
from analyses.experiments.view import View
from landscape import claim, store
from landscape.errors import InputError
from landscape.report import Finding, Page, Panel, Section, Table
from landscape.result import Provenance
from landscape.training.methods import labels
from landscape.training.settings import trained_smoothing
from landscape.wording import plural


@dataclass(frozen=True)
class Stored:
    """A result as it was read.

    Attributes:
        path: The file.
        analysis: The question.
        result: The answer.
        provenance: Where it comes from.
    """

    path: Path
    analysis: Analysis | Experiment
    result: Any
    provenance: Provenance


def read(path: Path) -> Stored:
    """Read a result of any analysis.

    Args:
        path: The file.

    Returns:
        The result with its analysis.

    Raises:
        InputError: If the file cannot be used or its analysis is not known.
    """
    provenance = store.provenance(path)
    analysis = named(provenance.analysis) or experiments.named(provenance.analysis)
    if analysis is None:
        raise InputError(f"{path} holds a result of '{provenance.analysis}', which is not known", "update the toolkit")
    return Stored(path, analysis, store.load(path, analysis.Result), provenance)


def page(stored: Sequence[Stored], title: str = "") -> Page:
    """Put results together.

    Args:
        stored: Results, in any order.
        title: Title of the page; by default the problem's name.

    Returns:
        The page.
    """
    stored, repeated = _distinct(stored)
    sections, findings = [], []
    asked: tuple[Analysis | Experiment, ...] = (*REGISTRY, *experiments.EXPERIMENTS)
    for analysis in asked:
        groups = _groups([s for s in stored if s.analysis is analysis])
        if not groups:
            continue
        panels = tuple(panel for label, group in groups.items() for panel in _panels(label, group))
        sections.append(Section(title=analysis.TITLE, question=analysis.QUESTION, panels=panels))
        findings.append(_finding(analysis, groups))
    problems = sorted({_short(s.provenance.problem) for s in stored if s.provenance.problem})
    return Page(
        title=title or f"Loss landscape of {' and '.join(problems) or ('toys' if stored else 'nothing yet')}",
        lead=_lead(stored, problems),
        findings=tuple(findings),
        tables=(*_checkpoints(stored), *_claims(stored)),
        sections=tuple(sections),
        warnings=(*repeated, *_warnings(stored)),
        provenance=(_provenance(stored),) if stored else (),
    )


def _finding(analysis: Analysis | Experiment, groups: dict[str, list[Stored]]) -> Finding:
    """One answer for all groups where they agree, else one line for each."""
    told = {label: analysis.words(*(s.result for s in group)) for label, group in groups.items()}
    if len(told) == 1:
        return Finding(analysis.QUESTION, *next(iter(told.values())))
    answers = {answer for answer, _ in told.values()}
    lines = [answer if _names_all(label, answer) else f"{label}: {answer}" for label, (answer, _) in told.items()]
    answer = f"{answers.pop()} ({', '.join(told)})" if len(answers) == 1 else "\n".join(lines)
    return Finding(analysis.QUESTION, answer, "\n".join(f"{label}: {detail}" for label, (_, detail) in told.items()))


def _names_all(label: str, answer: str) -> bool:
    """Whether an answer names all that its label names, so that it can stand without it."""
    names = re.split(r" [|→] ", label)
    return all(re.search(rf"(?<![\w→-]){re.escape(name)}(?![\w→-])", answer) for name in names)


def _distinct(stored: Sequence[Stored]) -> tuple[list[Stored], list[str]]:
    """Results without those that repeat another one, and a word about each that was left out."""
    kept: dict[str, Stored] = {}
    said = []
    for one in stored:
        about = one.provenance
        key = json.dumps([about.analysis, *about.inputs.values(), about.options, _terms(one)])
        if key in kept:
            said.append(
                f"{one.path} answers the same question about the same checkpoints as {kept[key].path}: left out"
            )
        kept.setdefault(key, one)
    return list(kept.values()), said


def _terms(one: Stored) -> dict[str, str]:
    """All that must agree for two results to be runs of one experiment: what was given but the seeds of chance."""
    p = one.provenance
    options = {k: v for k, v in p.options.items() if k != "seed" or p.inputs}  # of checkpoints, training is random
    trained = [{k: v for k, v in settings.items() if k != "seed"} for settings in p.trained.values()]
    methods = tuple(str(each.get("method", "")) for each in trained)
    names = labels(tuple(p.trained), methods)  # methods where they tell: files of several seeds differ in name
    settings = {f"{k} of {name}": v for name, each in zip(names, trained, strict=True) for k, v in each.items()}
    terms = {"problem": _short(p.problem), "data": p.data[:8], "dtype": p.dtype, **options, **settings}
    return {key: str(value) for key, value in terms.items() if value is not None}


def _groups(stored: Sequence[Stored]) -> dict[str, list[Stored]]:
    """Runs of one experiment together, by label; labels that would be equal say what differs."""
    groups: dict[tuple[str, str], list[Stored]] = {}
    for one in stored:
        groups.setdefault((one.analysis.label(one.result), json.dumps(_terms(one))), []).append(one)
    named = {}
    for (label, _), group in groups.items():
        rivals = [_terms(other[0]) for (name, _), other in groups.items() if name == label]
        own = _terms(group[0])
        apart = [f"{key} {own[key]}" for key in own if len({terms.get(key) for terms in rivals}) > 1]
        named[f"{label} ({', '.join(apart[:3])})" if apart else label] = group
    return named


def _panels(label: str, group: Sequence[Stored]) -> list[Panel]:
    """One panel for each view of the results; an analysis has one."""
    analysis: Any = group[0].analysis
    results = [s.result for s in group]
    answer, detail = analysis.words(*results)
    about = group[0].provenance
    rule = next((r.batchnorm for r in results if hasattr(r, "batchnorm")), "")
    caption = analysis.CAPTION + (f" BatchNorm statistics: {rule}." if rule else "")
    toy = analysis in experiments.EXPERIMENTS
    views = analysis.views(*results) if toy else (View("", analysis.figure(*results), caption),)
    first = Panel(
        title=": ".join(filter(None, (label, views[0].title))),
        figure=views[0].figure,
        caption=views[0].caption,
        command="\n".join(s.provenance.command for s in group),
        summary=f"{answer}. {detail}." if detail else f"{answer}.",
        data=None if toy else analysis.table(*results),  # claims stand above
        source={
            "files": ", ".join(str(s.path) for s in group),
            "options": ", ".join(f"{key} = {value}" for key, value in about.options.items()),
            "device and dtype": f"{about.device}, {about.dtype}",
            "computed": f"{about.created}, {about.seconds:g} s",
        },
    )
    more = [
        replace(first, title=f"{label}: {v.title}", figure=v.figure, caption=v.caption, summary="") for v in views[1:]
    ]
    return [first, *more]


def _checkpoints(stored: Sequence[Stored]) -> list[Table]:
    """The table of checkpoints of every evaluation."""
    groups = _groups([s for s in stored if s.analysis.NAME == evaluate.NAME])
    return [evaluate.overview(*(s.result for s in group)) for group in groups.values()]


def _claims(stored: Sequence[Stored]) -> list[Table]:
    """What is claimed beside what was found, of every experiment."""
    found = []
    for asked in experiments.EXPERIMENTS:  # in the order of the sections
        for label, group in _groups([s for s in stored if s.analysis is asked]).items():
            results = [s.result for s in group]
            found.append(claim.table(asked.claims(*results), asked.note(*results), label))
    return found


def _short(spec: str) -> str:
    """A spec without its directory."""
    name, colon, rest = spec.partition(":")
    return f"{Path(name).name if colon else name}{':' + rest if name.endswith('.py') else ''}" + (
        f"/{rest.rpartition('/')[2]}" if colon and not name.endswith(".py") else ""
    )


def _lead(stored: Sequence[Stored], problems: Sequence[str]) -> str:
    if not stored:
        return "No results were given."
    inputs = {digest for s in stored for digest in s.provenance.inputs.values()}
    if not inputs:
        return "Toy experiments: what is claimed of SAM beside what is found, where everything can be computed."
    what = f"{plural(len(inputs), 'checkpoint')} of {', '.join(problems)}"
    return f"{what}: where in the valley they sit, how sharp it is there, and what it means for their test errors."


def _warnings(stored: Sequence[Stored]) -> list[str]:
    found = []
    for s in stored:
        converged = getattr(s.result, "converged", np.array(True))
        status = getattr(s.result, "status", np.array(0))
        if not np.all(converged):
            found.append(f"{s.path.name}: some eigenvalues did not converge, see the table")
        if np.any(status):
            found.append(f"{s.path.name}: {_missing(int(np.sum(status != 0)))} could not be measured")
    found += dict.fromkeys(text for text in map(_other_loss, stored) if text)
    if len({s.provenance.problem for s in stored if s.provenance.problem}) > 1:
        found.append("The results are of different problems.")
    if len({s.provenance.versions.get("torch") for s in stored}) > 1:
        found.append("The results were computed with different versions of torch.")
    return found


def _other_loss(s: Stored) -> str:
    """Tells that networks were trained on another loss than the one that was measured; "" if they were not."""
    trained, measured = trained_smoothing(list(s.provenance.trained.values())), s.provenance.smoothing
    if set(trained) <= {measured}:
        return ""
    those = " and ".join(f"{value:g}" for value in trained)
    return f"Networks were trained with label smoothing {those}, and measured with {measured:g}: on another loss."


def _missing(n: int) -> str:
    return "1 point or direction" if n == 1 else f"{n} points or directions"


def _provenance(stored: Sequence[Stored]) -> Table:
    rows = [
        (str(s.path), s.analysis.NAME, name or None, digest[:16] or None, s.provenance.problem or None,
         s.provenance.data[:16] or None,
         s.provenance.device, s.provenance.dtype, s.provenance.versions.get("torch"), s.provenance.created)
        for s in stored
        for name, digest in (s.provenance.inputs or {"": ""}).items()
    ]  # fmt: skip
    columns = (
        "file",
        "analysis",
        "checkpoint",
        "SHA-256",
        "problem",
        "data SHA-256",
        "device",
        "dtype",
        "torch",
        "created",
    )
    return Table("What was read", columns, tuple(rows))
