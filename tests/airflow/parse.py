"""Parse a folder of DAGs and print what Airflow stores of them: ``parse.py FOLDER``."""

from __future__ import annotations

import json
import sys

from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

bag = DagBag(dag_folder=sys.argv[1])
stored = {dag_id: DagSerialization.to_dict(dag) for dag_id, dag in sorted(bag.dags.items())}
document = {"dags": stored, "errors": bag.import_errors}
sys.stdout.write(f"STORED {json.dumps(document, sort_keys=True, default=str)}\n")
