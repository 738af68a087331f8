"""Reads a page, and asserts that it loads nothing."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """What a page consists of: elements with their attributes, text by element, table cells."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.blocks, self.cells, self.open = [], {}, [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open = dict(attrs).get("id") if tag == "script" else None
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, _tag):
        self.open = None

    def handle_data(self, data):
        if self.open:
            self.blocks[self.open] = data
        elif self.cells:
            self.cells[-1] += data

    @property
    def description(self):
        return json.loads(self.blocks["description"])


def assert_self_contained(text):
    found = Page(text)
    for tag, attributes in found.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form") or tag == "form"
        for name in ("src", "href", "xlink:href", "action", "srcset", "poster"):
            address = attributes.get(name, "#")
            assert address.startswith(("#", "data:")), (tag, address)
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in text
    for address in re.findall(r"url\(([^)]*)\)", text):
        assert address.strip("\"'").startswith(("#", "data:", "${")), address
    policies = [a["content"] for _, a in found.elements if a.get("http-equiv")]
    ((own,),) = [re.findall("script-src 'sha256-([^']+)'", policy) for policy in policies]
    code = text[text.rindex("<script>") + len("<script>") : text.rindex("</script>")]
    assert base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() == own
    assert "default-src 'none'" in policies[0]
    return found
