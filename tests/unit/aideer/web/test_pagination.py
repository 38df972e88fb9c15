"""Cursors and links of paged lists: what a cursor holds, and which text is none."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideer.core.errors import Unprocessable
from aideer.web import pagination
from aideer.web.http import app
from tests.events import parse_links
