"""One HTML page about a project, with all of its pictures inside: nothing is loaded from anywhere else."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Sequence
from html import escape
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from voxloop import __version__
from voxloop.classify import Assessment
from voxloop.errors import InputError
from voxloop.io.atomic import replacing, storing
from voxloop.project.report_pictures import draw_course, draw_slice

if TYPE_CHECKING:
    from voxloop.project.project import Project

SUFFIXES = (".html", ".htm")
_MOST_FEATURES = 12
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: .7rem 0; } td, th { padding: .25rem .8rem; border-bottom: 1px solid #ddd; }
th { text-align: left; font-weight: 600; } .number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } figure { margin: .8rem 0; } figcaption, .note { color: #666; font-size: .87rem; }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .5em; border: 1px solid #0003; }
.bar { display: inline-block; height: .7em; background: #0072b2; } .large { font-size: 1.3rem; font-weight: 600; }
"""


def write_report(project: Project, path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Write a report; see `Project.report`."""
    path = Path(path).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} must end in .html")
    if not project.images:
        raise InputError("the project has no images")
    with replacing(path, overwrite=overwrite) as temporary, storing(path):
        temporary.write_text("\n".join(_page(project)), encoding="utf-8")
    return path


def _page(project: Project) -> Iterable[str]:
    title = escape(project.folder.resolve().stem)
    yield "<!DOCTYPE html>"
    yield f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head><body>'
    yield f"<h1>{title}</h1>"
    n_images, n_strokes = len(project.images), len(project.annotations.strokes)
    yield f'<p class="note">{n_images} {_plural("image", n_images)}, {n_strokes} {_plural("stroke", n_strokes)}; '
    yield f"written by voxloop {__version__}</p>"
    yield from _labels(project)
    yield from _quality(project)
    for index in range(n_images):
        yield from _image(project, index)
    yield "</body></html>"


def _labels(project: Project) -> Iterable[str]:
    """Yield the classes with what was labelled of each."""
    summary, voxels = project.label_summary(), project.count_labelled_voxels()
    rows = [
        [_named(c.name, c.color), f"{summary.counts[c.name]:,}", f"{voxels[c.name]:,}"]
        for c in project.annotations.classes
    ]
    yield "<h2>Labels</h2>"
    yield _table(["class", "supervoxels", "voxels"], rows)
    if summary.n_conflicts:
        yield f"<p>{summary.n_conflicts:,} supervoxels have strokes of several classes; the larger share decides.</p>"
    if summary.n_outside:
        yield f"<p>{summary.n_outside:,} labelled voxels lie outside the mask and are not used.</p>"


def _quality(project: Project) -> Iterable[str]:
    """Yield how good the classifier is, as far as the labels can tell."""
    yield "<h2>Accuracy on labels that were held out</h2>"
    try:
        found = project.assess()
    except InputError as error:
        yield f"<p>Not known: {escape(str(error))}.</p>"
        return
    share, low, high, mean = (
        f"{100 * x:.0f} %" for x in (found.accuracy, found.low, found.high, found.balanced_accuracy)
    )
    yield f'<p><span class="large">{share}</span> (95 % interval {low} to {high}); {mean} averaged over the classes</p>'
    yield f'<p class="note">{found.n_labels:,} supervoxels in {found.n_groups:,} strokes and neighbourhoods, each '
    yield "judged by trees that did not see it. People label what is clear: the rest of the image may be harder.</p>"
    yield from _confusion(project, found)
    largest = max(found.importances.values(), default=0.0)
    if largest > 0:
        rows = [
            [escape(cell), _bar(bits / largest), f"{bits:.3f}"]
            for cell, bits in list(found.importances.items())[:_MOST_FEATURES]
        ]
        yield "<h2>Features that matter</h2>"
        yield _table(["feature", "", "bits lost without it"], rows)


def _confusion(project: Project, found: Assessment) -> Iterable[str]:
    colors = {c.class_id: c.color for c in project.annotations.classes}
    names = [_named(project.class_names[c], colors[c]) for c in found.classes]
    rows: list[list[str]] = []
    for name, counts in zip(names, found.confusion, strict=True):
        whole = max(sum(counts), 1)
        shaded = [f'<span style="opacity:{0.35 + 0.65 * n / whole:.2f}">{n:,}</span>' for n in counts]
        rows.append([name, *shaded, f"{100 * counts[len(rows)] / whole:.0f} %" if sum(counts) else ""])
    yield _table(["labelled as, found to be", *names, "right"], rows)


def _image(project: Project, index: int) -> Iterable[str]:
    """Yield what was found in an image, with pictures."""
    record = project.images[index]
    yield f"<h2>{escape(record.name)}</h2><p>{escape(record.describe())}, "
    yield f"{project.supervoxels(index).n:,} supervoxels</p>"
    try:
        shares = project.class_shares(index)
    except InputError as error:
        yield f"<p>No segmentation: {escape(str(error))}.</p>"
        return
    inside = float(project.supervoxels(index).sizes.sum())
    flat = record.shape[0] == 1
    of_voxel = prod(record.spacing[1:] if flat else record.spacing)
    unit = f"{escape(record.unit)}{'²' if flat else '³'}"
    rows = [
        [_named(c.name, c.color), f"{100 * shares[c.name]:.2f} %", f"{shares[c.name] * inside * of_voxel:.4g} {unit}"]
        for c in project.annotations.classes
    ]
    yield _table(["class", "share", "area" if flat else "volume"], rows)
    depth = record.shape[0]
    for z in sorted({depth // 4, depth // 2, (3 * depth) // 4}):
        yield _figure(draw_slice(project, index, z), f"slice z = {z} of {depth}; labels are dots in full colour")
    rounds = project.history.rounds(index)
    if sum(r.accuracy is not None or r.change is not None for r in rounds) > 1:
        yield _figure(draw_course(rounds), "how it went, prediction after prediction")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; all columns but the first hold numbers."""

    def cells(tag: str, values: Sequence[str]) -> str:
        first, *others = values
        numbers = "".join(f'<{tag} class="number">{value}</{tag}>' for value in others)
        return f"<tr><{tag}>{first}</{tag}>{numbers}</tr>"

    return "<table>" + cells("th", header) + "".join(cells("td", row) for row in rows) + "</table>"


def _bar(share: float) -> str:
    return f'<span class="bar" style="width:{12 * max(share, 0):.2f}rem"></span>'


def _named(name: str, color: str) -> str:
    return f'<span class="swatch" style="background:{escape(color)}"></span>{escape(name)}'


def _figure(png: bytes, caption: str) -> str:
    content = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{content}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _plural(noun: str, number: int) -> str:
    return noun if number == 1 else f"{noun}s"
