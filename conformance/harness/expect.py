"""How the tables of cases say which error they want."""


def expect_error(answer, want):
    """Compares an answer with "Code: message"; "Code" where the answer must have no message at all; "Code: start…" where only
    the start of the message is known, and "Code: …" where only the code is: nobody has published the text."""
    assert answer.status == 400, f"status {answer.status}: {answer.body[:300]!r}"
    assert answer.headers["content-type"] == "application/x-amz-json-1.1"
    if want.endswith("…"):
        assert answer.error.startswith(want[:-1]) or want.endswith(": …") and answer.code == want[:-3], f"{answer.error!r}, not {want!r}"
    else:
        assert answer.error == want, f"\n got {answer.error!r}\nwant {want!r}"
