"""Whoever may INSERT writes payloads; what is in them stays text, whatever operator gets it."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import BaseOperator, dag, task

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.decorators import processor
from airflow_claim_dispatch.publisher import Publisher

# Airflow's BashOperator left the pipe of its process open, up to the standard provider 1.12.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file <_io.BufferedReader:ResourceWarning")

SECRET = "hunter-two-hunter-two"  # noqa: S105

HOSTILE = [
    "{{ conn.secretdb.password }}",
    "{% if True %}{{ conn.secretdb.password }}{% endif %}",
    "{{ '{{ conn.secretdb.password }}' }}",
    "secret.sh",
]

seen: list[object] = []


@pytest.fixture(autouse=True)
def secrets(monkeypatch, tmp_path):
    seen.clear()
    monkeypatch.setenv("AIRFLOW_CONN_SECRETDB", f"postgres://me:{SECRET}@nowhere/db")
    (tmp_path / "secret.sh").write_text(f"echo {SECRET}\n")
    (tmp_path / "greet.sh").write_text("echo '{{ params.greeting }}' \"$TEXT\"\n")


@pytest.fixture(params=HOSTILE)
def text(request, sqlite) -> str:
    """A hostile text, and an action that has it for its payload."""
    Publisher(sqlite.engine).quick("ill", timedelta(0), {"text": request.param})
    return request.param


def run(run_dag, tmp_path, make, arguments):
    """Run what ``make`` makes with what ``arguments`` says of the text."""

    @processor("ill")
    def ill(action: Action) -> dict:
        return arguments(action.payload["text"])

    @dag(
        schedule=None, catchup=False, template_searchpath=[str(tmp_path)],
        params={"greeting": "hello"},
    )  # fmt: skip
    def hostile() -> None:
        ill.using(make(), group_id="ill")

    ran = run_dag(hostile())
    assert ran.state == "success"
    return ran


def nothing_leaked(ran, caplog, capfd) -> None:
    """Airflow masks what it logs, so look at everything else as well."""
    values = [ran.xcom(ti.task_id, map_index=ti.map_index) for ti in ran.instances()]
    assert SECRET not in json.dumps([values, repr(seen)])
    assert SECRET not in caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize("place", ["command", "environment"])
def test_bash(run_dag, tmp_path, text, caplog, capfd, place):
    caplog.set_level(logging.DEBUG)
    if place == "command":
        command = f"cat <<'END'\n{text}\nEND"
        ran = run(
            run_dag, tmp_path, lambda: BashOperator.partial(task_id="run"),
            lambda _: {"bash_command": command},
        )  # fmt: skip
        assert ran.xcom("ill.run", map_index=0) == text.splitlines()[-1]
    else:
        ran = run(
            run_dag, tmp_path,
            lambda: BashOperator.partial(
                task_id="run", bash_command='echo "{{ params.greeting }} $TEXT"'
            ),
            lambda value: {"env": {"TEXT": value}},
        )  # fmt: skip
        assert ran.xcom("ill.run", map_index=0) == f"hello {text}"
    nothing_leaked(ran, caplog, capfd)


def test_a_name_of_a_file_is_not_read_and_the_authors_is(run_dag, tmp_path, text):
    ran = run(
        run_dag, tmp_path,
        lambda: BashOperator.partial(task_id="run", bash_command="greet.sh"),
        lambda value: {"env": {"TEXT": value}},
    )  # fmt: skip
    assert ran.xcom("ill.run", map_index=0) == f"hello {text}"


def test_a_taskflow_function(run_dag, tmp_path, text, caplog, capfd):
    caplog.set_level(logging.DEBUG)

    @task
    def look(given: object, mine: str) -> str:
        seen.append((given, mine))
        return json.dumps(given)

    ran = run(
        run_dag, tmp_path,
        lambda: look.partial(mine="{{ params.greeting }}"),
        lambda value: {"given": {"deep": [value, {"er": value}]}},
    )  # fmt: skip
    assert seen == [({"deep": [text, {"er": text}]}, "hello")]
    nothing_leaked(ran, caplog, capfd)


def test_a_taskflow_function_that_returns_a_command(run_dag, tmp_path, text, caplog, capfd):
    """``@task.bash`` renders what its function returns, once more, when it runs."""

    @task.bash
    def command(given: str) -> str:
        return f"cat <<'END'\n{given}\nEND"

    ran = run(run_dag, tmp_path, lambda: command, lambda value: {"given": value})
    assert ran.xcom("ill.command", map_index=0) == text
    nothing_leaked(ran, caplog, capfd)


class Mixer(BaseOperator):
    """Puts one argument into another's field, and renders itself when it runs."""

    template_fields = ("lines",)
    template_ext = (".sh",)

    def __init__(self, *, lines=None, more=None, **kwargs):
        super().__init__(**kwargs)
        self.lines = [*(lines or []), f"{more}!", more]

    def execute(self, context):
        self.render_template_fields(context)
        seen.append(self.lines)


@pytest.mark.parametrize("mine", [{}, {"lines": ["{{ params.greeting }}"]}])
def test_an_argument_that_ends_up_in_another_ones_field(run_dag, tmp_path, text, mine):
    run(
        run_dag,
        tmp_path,
        lambda: Mixer.partial(task_id="run", **mine),
        lambda value: {"more": value},
    )
    assert seen == [[*(["hello"] if mine else []), f"{text}!", text]]


def test_a_python_operator(run_dag, tmp_path, text):
    run(
        run_dag, tmp_path,
        lambda: PythonOperator.partial(task_id="run", python_callable=seen.append),
        lambda value: {"op_args": [value]},
    )  # fmt: skip
    assert seen == [text]


def test_a_pod(run_dag, tmp_path, text):
    kubernetes = pytest.importorskip(
        "airflow.providers.cncf.kubernetes.operators.pod",
        reason="apache-airflow-providers-cncf-kubernetes is not installed",
        exc_type=ImportError,
    )
    from kubernetes.client import ApiClient

    class Pod(kubernetes.KubernetesPodOperator):
        """Stops where it would ask a cluster."""

        hook = SimpleNamespace(is_in_cluster=False, get_namespace=lambda: "default")

        def execute(self, context):
            pod = self.build_pod_request_obj(context)
            seen.append(ApiClient().sanitize_for_serialization(pod))

    run(
        run_dag, tmp_path,
        lambda: Pod.partial(
            task_id="run", image="{{ params.greeting }}", name="pod",
            cmds=["echo", "{{ params.greeting }}"],
        ),
        lambda value: {
            "arguments": [value], "env_vars": {"TEXT": value}, "configmaps": [value],
            "annotations": {"a": value}, "node_selector": {"disk": value},
        },
    )  # fmt: skip
    (pod,) = seen
    assert SECRET not in json.dumps(pod)
    (container,) = pod["spec"]["containers"]
    assert (container["image"], container["command"]) == ("hello", ["echo", "hello"])
    assert container["args"] == [text]
    assert container["env"] == [{"name": "TEXT", "value": text}]
    assert container["envFrom"] == [{"configMapRef": {"name": text}}]
    assert pod["metadata"]["annotations"] == {"a": text}
    assert pod["spec"]["nodeSelector"] == {"disk": text}
