"""Trains a classifier on scikit-learn's digits, and logs loss and accuracy per epoch.

Metrics go to MLflow where it is installed. What is written to outputs/ comes home: the model and the last metrics.
"""

import argparse
import json
import pathlib

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

try:
    import mlflow
except ImportError:
    mlflow = None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rate", type=float, default=0.01, help="learning rate")
    args = parser.parse_args()

    digits = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        digits.data, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )
    scaler = StandardScaler().fit(x_train)
    x_train, x_test = scaler.transform(x_train), scaler.transform(x_test)
    print(f"{len(x_train)} images to learn from, {len(x_test)} to test with", flush=True)

    log_params({"epochs": args.epochs, "rate": args.rate})
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=args.rate, random_state=0)
    classes = np.unique(digits.target)
    order = np.random.default_rng(0)
    metrics = {}
    for epoch in range(args.epochs):
        rows = order.permutation(len(x_train))
        model.partial_fit(x_train[rows], y_train[rows], classes=classes)
        metrics = {
            "loss": float(log_loss(y_test, model.predict_proba(x_test), labels=classes)),
            "accuracy": float(accuracy_score(y_test, model.predict(x_test))),
        }
        print(f"epoch {epoch + 1:2d}  loss {metrics['loss']:.4f}  accuracy {metrics['accuracy']:.4f}", flush=True)
        log_metrics(metrics, epoch + 1)

    outputs = pathlib.Path("outputs")
    outputs.mkdir(exist_ok=True)
    joblib.dump(make_pipeline(scaler, model), outputs / "model.joblib")
    (outputs / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"the model is in {outputs / 'model.joblib'}")


def log_params(params):
    if mlflow:
        mlflow.log_params(params)


def log_metrics(metrics, step):
    if mlflow:
        mlflow.log_metrics(metrics, step=step)


if __name__ == "__main__":
    main()
