import re

from services.pipeline.adapters.documents import text

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.{0,16384}?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*[\"']?(.+?)[\"']?[ \t]*$", re.MULTILINE)
_HEADING = re.compile(r"^#{1,2} +(.+?)[ #]*$", re.MULTILINE)


def read(content: bytes) -> tuple[str, str]:
    """The text as it is, without front matter; its title is the front matter's or the first big heading."""
    title, body = text.read(content)
    body = body.replace("\r\n", "\n")
    if front := _FRONT_MATTER.match(body):
        body = body[front.end() :]
        if named := _FRONT_TITLE.search(front[1]):
            title = named[1]
    if not title and (heading := _HEADING.search(body, 0, 65_536)):
        title = heading[1]
    return title.strip(), body
