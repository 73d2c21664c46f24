"""What `project.json` holds."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from voxloop.errors import InputError, ProjectError
from voxloop.project.images import ImageRecord
from voxloop.project.storage import SCHEMA_VERSION, Document
from voxloop.specs import ClassifierSpec, FeatureSpec, QuerySpec, SlicSpec, Spec, describe_validation


class Specs(Spec):
    """What the user chose for each stage."""

    slic: SlicSpec = SlicSpec()
    features: FeatureSpec = FeatureSpec()
    classifier: ClassifierSpec = ClassifierSpec()
    query: QuerySpec = QuerySpec()

    def configured(self, **choices: Any) -> Specs:
        """Return specs with some fields changed: a spec, or a dict of the fields of one, by its name here."""
        specs = {}
        for name, choice in choices.items():
            if name not in type(self).model_fields:
                raise InputError(f"there are no specs {name!r}; there are {', '.join(type(self).model_fields)}")
            specs[name] = choice if isinstance(choice, Spec) else getattr(self, name).changed(**choice)
        return self.changed(**specs)


class ProjectRecord(Spec):
    """Images and specs; classes and labels are in the annotation log."""

    images: tuple[ImageRecord, ...] = ()
    specs: Specs = Specs()

    def to_document(self) -> Document:
        """Return the record as JSON-able data with the schema's version."""
        return {"schema_version": SCHEMA_VERSION, **self.model_dump(mode="json")}

    @classmethod
    def from_document(cls, document: Document) -> ProjectRecord:
        """Return the record that a document of the current version holds, or raise `ProjectError`."""
        try:
            return cls.model_validate({k: v for k, v in document.items() if k != "schema_version"})
        except ValidationError as error:
            raise ProjectError(f"project.json is damaged: {describe_validation(error)}") from None
