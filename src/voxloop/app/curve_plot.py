"""A small picture of how the prediction settles, and of its estimated accuracy, over the labels so far."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from voxloop.project.history import Round

_STABILITY, _ACCURACY = QColor("#56b4e9"), QColor("#e69f00")
_MARGIN = 8
_LINES = 7.5  # height in lines of the font
Points = list[tuple[float, float]]


class CurvePlot(QWidget):
    """Share of supervoxels that kept their class at each update, and accuracy where it was estimated."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "blue: the share of supervoxels that kept their class at an update; it nears 100 % as more labels stop "
            "changing the result\norange: accuracy, estimated on strokes that were held out"
        )
        self.stability: Points = []
        self.accuracy: Points = []

    def show_rounds(self, rounds: Sequence[Round]) -> None:
        """Draw these updates, oldest first."""
        self.stability = [(r.n_labelled, 1 - r.change) for r in rounds if r.change is not None]
        self.accuracy = [(r.n_labelled, r.accuracy) for r in rounds if r.accuracy is not None]
        self.setVisible(bool(self.stability or self.accuracy))
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return a size that follows the font."""
        line = self.fontMetrics().height()
        return QSize(16 * line, int(_LINES * line))

    def paintEvent(self, _event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Draw axes and curves."""
        points = [*self.stability, *self.accuracy]
        if not points:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        low = min(0.9, *(y for _, y in points), 0.9)
        most = max(1.0, *(x for x, _ in points), 1.0)
        line, left = self.fontMetrics().height(), self.fontMetrics().horizontalAdvance("100% ")
        field = QRectF(left, _MARGIN, self.width() - left - _MARGIN, self.height() - 2 * (_MARGIN + line))
        color = self.palette().text().color()
        painter.setPen(QPen(color, 0.5))
        painter.drawRect(field)
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        for value, at in ((1.0, field.top()), (low, field.bottom())):
            painter.drawText(QRectF(0, at - line / 2, left - 4, line), right, f"{value:.0%}")
        painter.drawText(QRectF(left, field.bottom() + 2, field.width(), line), right, f"{most:.0f} labelled")

        def place(x: float, y: float) -> QPointF:
            return QPointF(
                field.left() + field.width() * x / most, field.bottom() - field.height() * (y - low) / (1 - low)
            )

        for curve, pen, name in ((self.stability, _STABILITY, "unchanged"), (self.accuracy, _ACCURACY, "accuracy")):
            if curve:
                painter.setPen(QPen(pen, 2))
                painter.drawPolyline(QPolygonF([place(x, y) for x, y in curve]))
                painter.drawEllipse(place(*curve[-1]), 2.5, 2.5)
                painter.drawText(QPointF(left, self.height() - 5), f"{name} {curve[-1][1]:.1%}")
                left += field.width() / 2
        painter.end()
