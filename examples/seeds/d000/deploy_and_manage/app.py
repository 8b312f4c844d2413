"""A script that deploys services one by one, asks them, changes them while they serve, and tests them under load.

cd examples/seeds && EAGLERAY_NUM_GPUS=1 python -m d000.deploy_and_manage.app [--port 8000] [--stay]

EAGLERAY_NUM_GPUS=1 lets a machine without a GPU stand in. With --stay it serves until Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import threading
from typing import Any

from d000.batch_model.app import BatchOptimizedModel
from d000.deploy_and_manage.load_test import performance_testing
from d000.gpu_model.app import GPUAcceleratedModel
from d000.ml_pipeline.app import DataPreprocessor, MLPipeline, ModelInference
from d000.model_files import model_file
from d000.model_versions.app import ModelVersionManager
from d000.monitored_model.app import MonitoredModel
from d000.monitored_production_model.app import MonitoredProductionModel
from d000.simple_classifier.app import SimpleClassifier
from eagleray import serve

FLOWER = [1.0, 2.0, 3.0, 4.0]
DOUBTFUL = [6.1, 2.6, 5.6, 1.4]  # between two species: the model is 56 % sure


def deploy(application: serve.Application, name: str) -> None:
    """An application of its own, below a route of its name; returns when it runs."""
    serve.run(application, name=name, route_prefix=f"/{name}")
    print(f"Deployed {name}")


def deploy_services() -> None:
    """Everything there is in this document, but for the ensemble and the production options."""
    deploy(SimpleClassifier.bind(model_file("simple_model.pkl")), "simple_service")
    deploy(GPUAcceleratedModel.bind("digits_small"), "gpu_service")
    deploy(BatchOptimizedModel.bind(model_file("batch_model.pkl")), "batch_service")
    deploy(MonitoredModel.bind(model_file("monitored_model.pkl")), "monitored_service")
    deploy(MonitoredProductionModel.bind(model_file("production_model.pkl")), "production_service")
    deploy(DataPreprocessor.bind(), "preprocessor")
    deploy(ModelInference.bind(model_file("inference_model.pkl")), "model_inference")
    # Of three applications, where d000.ml_pipeline has one: each can be deployed anew by itself.
    steps = (serve.get_app_handle("preprocessor"), serve.get_app_handle("model_inference"))
    deploy(MLPipeline.bind(*steps), "ml_pipeline")
    ModelVersionManager.deploy_model_versions()


def ask(name: str, request: dict[str, Any]) -> Any:
    """The answer of the application `name`, by a handle."""
    return serve.get_app_handle(name).remote(request).result(timeout_s=60)


def ask_services() -> None:
    print(f"Inference result: {ask('simple_service', {'features': FLOWER})}")
    print(f"Pipeline result: {ask('ml_pipeline', {'raw_data': FLOWER})}")
    print(f"GPU result: {ask('gpu_service', {'image': [0.0] * 64})}")
    print(f"Batch result: {ask('batch_service', {'input': [0.0] * 64})}")


def read_counts() -> None:
    """What the monitored models tell, after two requests that were right and one that was not."""
    for name, member, method in (
        ("monitored_service", "features", "get_stats"),
        ("production_service", "data", "get_metrics"),
    ):
        handle = serve.get_app_handle(name)
        for row in (FLOWER, FLOWER, FLOWER[:2]):
            try:
                handle.remote({member: row}).result(timeout_s=60)
            except ValueError as error:
                print(f"{name} refused {row}: {str(error).splitlines()[-1]}")
        counts = getattr(handle, method).remote().result(timeout_s=60)
        print(f"{name}: {counts}")


def update_simple_service() -> None:
    """More replicas, and another threshold; requests go on being answered meanwhile."""
    bigger = SimpleClassifier.options(num_replicas=4, user_config={"threshold": 0.8})
    deploy(bigger.bind(model_file("simple_model.pkl")), "simple_service")
    print(f"Updated result: {ask('simple_service', {'features': DOUBTFUL})}")


def roll_back() -> None:
    ModelVersionManager.roll_back()
    versions = {ask("traffic_splitter", {"features": FLOWER})["model_version"] for _ in range(50)}
    print(f"Versions after the rollback: {sorted(versions)}")


def deploy_and_manage(port: int = 8000, stay: bool = False) -> None:
    """All of it; nothing is left running afterwards, however it ends."""
    serve.start(http_options={"port": port})
    try:
        deploy_services()
        ask_services()
        read_counts()
        update_simple_service()
        roll_back()
        print("All services deployed successfully!")
        asyncio.run(performance_testing(f"http://127.0.0.1:{port}/simple_service"))
        if stay:
            print("Stop   Ctrl-C", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        print("Stopped")
    finally:
        serve.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--stay", action="store_true", help="serve until Ctrl-C")
    given = parser.parse_args()
    deploy_and_manage(given.port, given.stay)
