"""What Airflow asks a provider about; read by every Airflow process, so nothing heavy here."""

from __future__ import annotations

from typing import Any

from airflow_claim_dispatch import __version__
from airflow_claim_dispatch.settings import OPTIONS, SECTION

_INTEGRATION = "Claim Dispatch"


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata."""
    package = "airflow_claim_dispatch"
    return {
        "package-name": "airflow-claim-dispatch",
        "name": _INTEGRATION,
        "description": "A durable to-do list in one table, claimed and run by Airflow.",
        "versions": [__version__],
        "integrations": [{"integration-name": _INTEGRATION, "tags": ["software"]}],
        "hooks": [_modules("hooks")],
        "operators": [_modules("operators", "upkeep")],
        "sensors": [_modules("sensors")],
        "triggers": [_modules("triggers", "deaths")],
        "notifications": [f"{package}.notifications.PublishAction"],
        "asset-uris": [{"schemes": ["claim-dispatch"], "handler": None}],
        "cli": [f"{package}.cli.airflow_commands"],
        "config": {
            SECTION: {
                "description": "Where the action log is, and how it is claimed.",
                "options": {name: _option(*option) for name, option in OPTIONS.items()},
            }
        },
    }


def _modules(*names: str) -> dict[str, Any]:
    return {
        "integration-name": _INTEGRATION,
        "python-modules": [f"airflow_claim_dispatch.{name}" for name in names],
    }


def _option(default: str, description: str) -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": "string",
        "example": None,
        "default": default,
    }
