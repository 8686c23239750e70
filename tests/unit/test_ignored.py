"""An `Ignore` carries no traceback to the main process; every other exception does."""

from __future__ import annotations

import pickle

import pytest
from celery.exceptions import Ignore, Reject

from celery_app.overrides.ignore_without_traceback import BriefExceptionInfo


@pytest.mark.parametrize(("raised", "lines"), [(Ignore("parked"), 0), (Reject("put back"), 1), (ValueError("bad"), 1)])
def test_only_an_ignore_has_no_traceback(raised: Exception, lines: int) -> None:
    try:
        raise raised
    except Exception:
        told = pickle.loads(pickle.dumps(BriefExceptionInfo(internal=True)))
    assert told.internal and told.type is type(raised)
    assert told.traceback.count("raise raised") == lines
    assert str(told) == told.traceback and (told.exc_info[2] is None) == (lines == 0)
