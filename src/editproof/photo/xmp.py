"""XMP without pictures, with the mark of a protected photo (ISO 16684-1; the packet is XML)."""

import re
from collections.abc import Iterable, Mapping
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from editproof.photo.prose import holds_picture

RDF, DC = "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "http://purl.org/dc/elements/1.1/"
XMP, TIFF, EXIF = "http://ns.adobe.com/xap/1.0/", "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
PHOTOSHOP, XMPMM = "http://ns.adobe.com/photoshop/1.0/", "http://ns.adobe.com/xap/1.0/mm/"
OURS, MARK = "urn:editproof:1.0/", "Protected"
LONGEST, LONGEST_READ = 60_000, 4_000_000  # bytes of a packet: it must fit into a segment of a JPEG
WITH_PICTURES = (  # whole namespaces of thumbnails, depth maps, gain maps, and of what lies elsewhere in the file
    "http://ns.adobe.com/xap/1.0/g/img/",
    "http://ns.adobe.com/xmp/note/",
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.apple.com/HDRGainMap/1.0/",
    "http://ns.google.com/photos/",
)
PANORAMA = "http://ns.google.com/photos/1.0/panorama/"  # how to look at it; holds no picture
LEFT_OUT = {  # these hold pictures, or describe how the file lay before the photo was turned upright
    (XMP, "Thumbnails"),
    (XMPMM, "Pantry"),
    (PHOTOSHOP, "DocumentAncestors"),  # no picture, but often megabytes of numbers
    (TIFF, "Orientation"),
    (TIFF, "ImageWidth"),
    (TIFF, "ImageLength"),
    (EXIF, "PixelXDimension"),
    (EXIF, "PixelYDimension"),
}
PREFIXES = {DC: "dc", PHOTOSHOP: "photoshop", EXIF: "exif"}
ARRAYS = {
    "creator": "Seq",
    "subject": "Bag",
    "title": "Alt",
    "description": "Alt",
    "rights": "Alt",
    "UserComment": "Alt",
}
BASE64 = re.compile(r"[A-Za-z0-9+/=_-]{400,}")
BASE64_PICTURE = re.compile(r"/9j/|iVBORw0KGgo|UklGR")  # what JPEG, PNG and WebP files begin with
EMPTY = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"/></x:xmpmeta>'
Captions = Mapping[tuple[str, str], str | list[str]]  # (namespace, property) -> text, or texts of a list


def clean_xmp(packet: bytes | str | None, captions: Captions | None = None) -> bytes | None:
    """What a packet says of the photo, None if that is nothing; never raises.

    Left out: thumbnails, depth and gain maps, anything long in base64, the orientation, and a packet that is no XML or
    has entities. `captions` are added where the packet lacks them.
    """
    try:
        return _clean(_parse(packet), captions or {})
    except RecursionError:  # thousands of elements inside each other
        return _clean(None, captions or {})


def _clean(document: minidom.Document | None, captions: Captions) -> bytes | None:
    document = document or minidom.parseString(EMPTY)
    _strip(_root(document))
    for (namespace, name), value in captions.items():
        if not _has(document, namespace, name):
            _add(document, namespace, name, [value] if isinstance(value, str) else value)
    says = any(_says_something(d) for d in _descriptions(document))
    written = _text(document)
    return written if says and len(written) <= LONGEST else None


def mark(packet: bytes | None) -> bytes:
    """The packet (of clean_xmp, or None) with the mark of a protected photo, which is all that the mark says."""
    document = _parse(packet) or minidom.parseString(EMPTY)
    description = _description(document)
    description.setAttribute("xmlns:editproof", OURS)
    description.setAttribute("editproof:" + MARK, "True")
    return _text(document)


def is_marked(packet: bytes | str | None) -> bool:
    """Whether the packet holds the mark."""
    document = _parse(packet)
    return document is not None and _has(document, OURS, MARK)


def _parse(packet: bytes | str | None) -> minidom.Document | None:
    """The packet's XML; None where there is none that is sound. Entities could blow it up and are not allowed."""
    packet = packet.encode() if isinstance(packet, str) else packet or b""
    begin, end = packet.find(b"<x:xmpmeta"), packet.rfind(b"</x:xmpmeta>")
    begin, end = (begin, end + 12) if begin >= 0 and end > begin else (packet.find(b"<rdf:RDF"), packet.rfind(b">") + 1)
    if begin < 0 or len(packet) > LONGEST_READ or b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        return None
    if end > begin and packet[begin:end].startswith(b"<rdf:RDF"):
        end = packet.rfind(b"</rdf:RDF>") + 10
    try:
        document = minidom.parseString(packet[begin:end].strip(b"\0"))
        return document if document.getElementsByTagNameNS(RDF, "RDF") else None
    except (ExpatError, ValueError, LookupError, RecursionError):
        return None


def _unwanted(namespace: str | None, name: str | None) -> bool:
    namespace = namespace or ""
    pictures = namespace.startswith(WITH_PICTURES) and namespace != PANORAMA
    return pictures or (namespace, name) in LEFT_OUT


def _encoded(text: str) -> bool:
    """Whether a text hides a picture: base64 of one, or so much base64 that it might be one."""
    words = text.split()
    joined = "".join(words)
    if max(map(len, words), default=0) < 60 or len(joined) < 200:
        return False
    return bool(BASE64.search(joined) or BASE64_PICTURE.search(joined) or holds_picture(text.encode(errors="replace")))


def _strip(element: minidom.Element) -> None:
    """Take out of an element, and of everything below it, what is not to be published."""
    for attribute in list(element.attributes.values()):
        if _unwanted(attribute.namespaceURI, attribute.localName) or _encoded(attribute.value):
            element.removeAttributeNode(attribute)
    text = "".join(n.data for n in element.childNodes if n.nodeType in (n.TEXT_NODE, n.CDATA_SECTION_NODE))
    for node in list(element.childNodes):
        if node.nodeType == node.ELEMENT_NODE and not _unwanted(node.namespaceURI, node.localName):
            _strip(node)
        elif node.nodeType not in (node.TEXT_NODE, node.CDATA_SECTION_NODE) or _encoded(text):
            element.removeChild(node)


def _root(document: minidom.Document) -> minidom.Element:
    assert document.documentElement is not None
    return document.documentElement


def _rdf(document: minidom.Document) -> minidom.Element:
    return document.getElementsByTagNameNS(RDF, "RDF")[0]


def _descriptions(document: minidom.Document) -> list[minidom.Element]:
    return [n for n in _rdf(document).childNodes if n.nodeType == n.ELEMENT_NODE]


def _description(document: minidom.Document) -> minidom.Element:
    """The first description, made if there is none."""
    found = _descriptions(document)
    if found:
        return found[0]
    rdf = _rdf(document)
    made = document.createElementNS(RDF, f"{rdf.prefix}:Description")
    made.setAttributeNS(RDF, f"{rdf.prefix}:about", "")
    return rdf.appendChild(made)


def _says_something(description: minidom.Element) -> bool:
    attributes = [a for a in description.attributes.values() if a.prefix != "xmlns" and a.namespaceURI != RDF]
    return bool(attributes) or any(n.nodeType == n.ELEMENT_NODE for n in description.childNodes)


def _has(document: minidom.Document, namespace: str, name: str) -> bool:
    return any(
        d.hasAttributeNS(namespace, name) or d.getElementsByTagNameNS(namespace, name) for d in _descriptions(document)
    )


def _add(document: minidom.Document, namespace: str, name: str, values: Iterable[str]) -> None:
    """A property as XMP's schemas want it: a list of texts, a text in the default language, or plain text."""
    description, prefix, rdf = _description(document), PREFIXES[namespace], _rdf(document).prefix
    description.setAttribute(f"xmlns:{prefix}", namespace)
    holder = description.appendChild(document.createElementNS(namespace, f"{prefix}:{name}"))
    if name not in ARRAYS:
        holder.appendChild(document.createTextNode(" ".join(values)))
        return
    array = holder.appendChild(document.createElementNS(RDF, f"{rdf}:{ARRAYS[name]}"))
    for value in values:
        item = array.appendChild(document.createElementNS(RDF, f"{rdf}:li"))
        if ARRAYS[name] == "Alt":
            item.setAttribute("xml:lang", "x-default")
        item.appendChild(document.createTextNode(value))


def _text(document: minidom.Document) -> bytes:
    xml = _root(document).toxml()
    return f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{xml}<?xpacket end="w"?>'.encode(errors="replace")
