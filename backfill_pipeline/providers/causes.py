"""Why no reply came, in a few words; the libraries' own texts name objects and addresses in memory."""

from __future__ import annotations

import requests

_WORDS = (
    ("timed out", "no answer in time"),
    ("refused", "connection refused"),
    ("resolve", "its name is not known"),
    ("resolution", "its name is not known"),
)
_UNCONNECTED = ("connection refused", "its name is not known", "the proxy does not answer")


def cause(error: BaseException) -> str:
    if isinstance(error, requests.exceptions.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy does not answer"
    text = str(error).lower()
    for mark, words in _WORDS:
        if mark in text:
            return words
    return "the connection broke"


def was_connected(error: BaseException) -> bool:
    """Whether there was somebody at the address, who then did not answer well."""
    return not isinstance(error, requests.exceptions.ConnectTimeout) and cause(error) not in _UNCONNECTED
