"""At most one processor serves any type, and one that serves none is refused."""

from __future__ import annotations

import pytest

from airflow_claim_dispatch.core.errors import InvalidProcessor, InvalidSetting, InvalidType
from airflow_claim_dispatch.core.processor import Processor, Processors


class Mail(Processor):
    types = ("mail", "mail.later")


class Reports(Processor):
    prefix = "report."

    def supports(self, type):
        return type.endswith(".daily")


class Anything(Processor):
    def supports(self, type):
        return True


def serving(*types: str, **attributes: object) -> Processor:
    return type("Some", (Processor,), {"types": types, **attributes})()


def test_a_processor_is_found_by_type():
    mail, reports = Mail(), Reports()
    processors = Processors([mail, reports])
    assert processors.find("mail") is mail
    assert processors.find("report.daily") is reports
    assert processors.find("report.weekly") is None
    assert processors.find("other.daily") is None


def test_types_and_prefixes_are_sorted():
    processors = Processors([serving("b", "a"), Reports(), Anything()])
    assert processors.types == ("a", "b")
    assert processors.prefixes == ("", "report.")


def test_a_named_type_comes_before_an_open_ended_processor():
    mail = Mail()
    assert Processors([Anything(), mail]).find("mail") is mail


def test_one_processor_needs_no_list():
    mail = Mail()
    assert list(Processors(mail)) == [mail]


@pytest.mark.parametrize(
    ("processors", "message"),
    [
        ([], "no processors were given"),
        ([Mail], "is no processor"),
        (["mail"], "is no processor"),
        ([Processor()], "supports nothing"),
        ([serving("mail"), Mail()], "both serve 'mail'"),
        ([serving(types="mail")], "types must be a tuple"),
    ],
)
def test_what_cannot_serve_is_refused(processors, message):
    with pytest.raises(InvalidProcessor, match=message):
        Processors(processors)


def test_types_are_checked_like_a_publishers():
    with pytest.raises(InvalidType):
        Processors(serving("x" * 121))


def test_a_policy_outside_its_range_is_refused_at_once():
    with pytest.raises(InvalidSetting):
        Processors(serving("mail", max_attempts=0))


def test_two_open_ended_processors_that_want_one_type_are_refused():
    with pytest.raises(InvalidProcessor, match=r"both serve 'report\.daily'"):
        Processors([Reports(), Anything()]).find("report.daily")


def test_a_repr_is_the_same_in_every_process():
    assert "0x" not in repr(Processors([Mail(), Reports()]))
