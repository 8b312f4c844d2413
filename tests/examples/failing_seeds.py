"""Programs of document 000 that were given files which are not there, or names that they do not know."""

from __future__ import annotations

from d000.ensemble_model.app import EnsembleModel
from d000.gpu_model.app import GPUAcceleratedModel
from d000.model_files import missing_file
from d000.resilient_model.app import without_primary
from d000.simple_classifier.app import SimpleClassifier

FEW = {"max_constructor_retry_count": 1}

lost = SimpleClassifier.options(**FEW).bind(missing_file("model.pkl"))
unknown = GPUAcceleratedModel.options(**FEW).bind("resnet50")
ensemble = EnsembleModel.options(**FEW).bind(
    [{"name": name, "path": missing_file(name)} for name in ("one", "two")]
)
resilient = without_primary
