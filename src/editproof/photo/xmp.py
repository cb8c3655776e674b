"""XMP built anew from known properties, with the mark of a protected photo (ISO 16684-1; the packet is XML).

A property is copied if it is in the table below, is what XMP's and IPTC's schemas say it is, and its texts are texts
(see prose). Thumbnails, depth and gain maps, histories and whatever else is not listed stay behind.
"""

import re
from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape, quoteattr

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from editproof.photo.prose import reads_as_text

RDF, DC = "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "http://purl.org/dc/elements/1.1/"
XMP, TIFF, EXIF = "http://ns.adobe.com/xap/1.0/", "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
PHOTOSHOP, RIGHTS = "http://ns.adobe.com/photoshop/1.0/", "http://ns.adobe.com/xap/1.0/rights/"
IPTC, IPTC_EXT = "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/", "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
AUX, PANORAMA = "http://ns.adobe.com/exif/1.0/aux/", "http://ns.google.com/photos/1.0/panorama/"
PLUS, LIGHTROOM = "http://ns.useplus.org/ldf/xmp/1.0/", "http://ns.adobe.com/lightroom/1.0/"
OURS, MARK = "urn:editproof:1.0/", "Protected"
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
LONGEST, LONGEST_READ, MOST_ELEMENTS = 60_000, 4_000_000, 100_000  # bytes of a packet: it must fit into a JPEG
VALUE, TEXT, ALT, SEQ, BAG = "value", "text", "Alt", "Seq", "Bag"  # a few characters, a text, and the three lists
LONGEST_VALUE, LONGEST_TEXT, MOST_ITEMS = 100, 2000, 100  # characters; items of a list, whose texts together count
PLACE = {  # properties that say where
    *((EXIF, f"GPS{name}") for name in ("Latitude", "Longitude", "Altitude", "AltitudeRef", "TimeStamp", "MapDatum")),
    *((EXIF, f"GPS{name}") for name in ("VersionID", "ImgDirection", "ImgDirectionRef", "Speed", "SpeedRef")),
    *((PHOTOSHOP, name) for name in ("City", "State", "Country")),
    *((IPTC, name) for name in ("Location", "CountryCode")),
}
KNOWN: dict[str, tuple[str, dict[str, str]]] = {  # name space: prefix, and what its properties are
    DC: ("dc", {
        "title": ALT, "description": ALT, "rights": ALT, "creator": SEQ, "contributor": BAG, "subject": BAG,
        "date": SEQ, "language": BAG, "publisher": BAG, "type": BAG, "source": TEXT, "relation": BAG,
        "coverage": TEXT, "identifier": VALUE,
    }),
    XMP: ("xmp", dict.fromkeys(
        ("CreateDate", "ModifyDate", "MetadataDate", "Rating", "Label", "CreatorTool", "Nickname"), VALUE)),
    RIGHTS: ("xmpRights", {"Marked": VALUE, "Owner": BAG, "UsageTerms": ALT, "WebStatement": VALUE}),
    PHOTOSHOP: ("photoshop", {
        "Headline": TEXT, "City": VALUE, "State": VALUE, "Country": VALUE, "Credit": TEXT, "Source": TEXT,
        "Instructions": TEXT, "DateCreated": VALUE, "AuthorsPosition": TEXT, "CaptionWriter": TEXT, "Category": VALUE,
        "Urgency": VALUE, "TransmissionReference": VALUE, "SupplementalCategories": BAG,
    }),
    IPTC: ("Iptc4xmpCore", {
        "Location": VALUE, "CountryCode": VALUE, "IntellectualGenre": VALUE, "Scene": BAG, "SubjectCode": BAG,
        "AltTextAccessibility": ALT, "ExtDescrAccessibility": ALT,
    }),
    IPTC_EXT: ("Iptc4xmpExt", {
        "Event": ALT, "PersonInImage": BAG, "OrganisationInImageName": BAG, "DigitalSourceType": VALUE,
    }),
    PLUS: ("plus", {"DataMining": VALUE}),
    LIGHTROOM: ("lr", {"hierarchicalSubject": BAG}),
    TIFF: ("tiff", {
        "Make": VALUE, "Model": VALUE, "Software": VALUE, "Artist": TEXT, "DateTime": VALUE, "Copyright": ALT,
        "ImageDescription": ALT,
    }),
    EXIF: ("exif", {
        **dict.fromkeys((
            "DateTimeOriginal", "DateTimeDigitized", "ExposureTime", "FNumber", "ExposureProgram", "ShutterSpeedValue",
            "ApertureValue", "BrightnessValue", "ExposureBiasValue", "MaxApertureValue", "SubjectDistance",
            "MeteringMode", "LightSource", "FocalLength", "FocalLengthIn35mmFilm", "WhiteBalance", "ColorSpace",
        ), VALUE),
        **{name: VALUE for space, name in PLACE if space == EXIF}, "UserComment": ALT, "ISOSpeedRatings": SEQ,
    }),
    AUX: ("aux", dict.fromkeys(("Lens", "LensInfo", "LensID", "SerialNumber", "LensSerialNumber", "Firmware"), VALUE)),
    PANORAMA: ("GPano", dict.fromkeys((
        "ProjectionType", "UsePanoramaViewer", "CaptureSoftware", "StitchingSoftware", "PoseHeadingDegrees",
        "PosePitchDegrees", "PoseRollDegrees", "InitialViewHeadingDegrees", "InitialViewPitchDegrees",
        "InitialViewRollDegrees", "FirstPhotoDate", "LastPhotoDate", "SourcePhotosCount", "ExposureLockUsed",
        "CroppedAreaImageWidthPixels", "CroppedAreaImageHeightPixels", "FullPanoWidthPixels", "FullPanoHeightPixels",
        "CroppedAreaLeftPixels", "CroppedAreaTopPixels",
    ), VALUE)),
}  # fmt: skip
Name = tuple[str, str]  # name space, property
Captions = Mapping[Name, str | list[str]]  # text, or texts of a list
Items = list[tuple[str, str]]  # language, empty but in an Alt; text
Properties = dict[Name, Items]


def clean_xmp(packet: bytes | str | None, captions: Captions | None = None, place: bool = True) -> bytes | None:
    """What a packet says of the photo, None if that is nothing; never raises.

    `captions` are added where the packet lacks them. Without `place`, where the photo was taken is left out. So is
    everything of a packet that is no XML, has entities, or more than MOST_ELEMENTS elements.
    """
    found = _properties(packet)
    for name, value in (captions or {}).items():
        texts = [value] if isinstance(value, str) else value
        found.setdefault(name, [("x-default" if _kind(name) == ALT else "", text) for text in texts])
    found = {name: [(language, _tidy(text)) for language, text in items] for name, items in found.items()}
    kept = {name: items for name, items in found.items() if (place or name not in PLACE) and _is_plain(name, items)}
    while kept and len(written := _text(kept)) > LONGEST:
        del kept[max(kept, key=lambda name: sum(len(text) for _, text in kept[name]))]
    return written if kept else None


def mark(packet: bytes | None) -> bytes:
    """The packet (of clean_xmp, or None) with the mark of a protected photo, which is all that the mark says."""
    return _text(_properties(packet), marked=True)


def is_marked(packet: bytes | str | None) -> bool:
    """Whether the packet holds the mark."""
    name = f"{{{OURS}}}{MARK}"
    return any(name in d.attrib or d.find(name) is not None for d in _descriptions(packet))


def has_place(packet: bytes | str | None) -> bool:
    """Whether a packet holds coordinates."""
    return not {(EXIF, "GPSLatitude"), (EXIF, "GPSLongitude")}.isdisjoint(_properties(packet))


def _tidy(text: str) -> str:
    """A text as it is after XML has been read: one kind of line end, nothing around it."""
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def _kind(name: Name) -> str | None:
    space, local = name
    return KNOWN[space][1].get(local) if space in KNOWN else None


def _is_plain(name: Name, items: Items) -> bool:
    """Whether a property's texts are such as its schema has, and texts at all."""
    texts, kind = [text for _, text in items], _kind(name)
    joined = " ".join(texts)
    most = LONGEST_VALUE if kind == VALUE else LONGEST_TEXT
    if kind is None or not texts or not joined.strip() or len(texts) > (MOST_ITEMS if kind in (SEQ, BAG, ALT) else 1):
        return False
    return len(joined) <= most and reads_as_text(joined) and all(map(reads_as_text, texts))


def _descriptions(packet: bytes | str | None) -> list[Element]:
    """The descriptions of a packet; none if it is no sound XML. Entities could blow it up and are not allowed."""
    packet = packet.encode(errors="replace") if isinstance(packet, str) else packet or b""
    if len(packet) > LONGEST_READ or packet.count(b"<") > MOST_ELEMENTS:
        return []
    begin = packet.find(b"<rdf:RDF")
    end = packet.find(b"</rdf:RDF>", begin) + len(b"</rdf:RDF>")
    outer = packet.find(b"<x:xmpmeta")
    if 0 <= outer < begin and (last := packet.find(b"</x:xmpmeta>", end)) > 0:
        begin, end = outer, last + len(b"</x:xmpmeta>")
    try:
        root = ElementTree.fromstring(packet[begin:end], forbid_dtd=True) if 0 <= begin < end else None
    except (ParseError, DefusedXmlException, ValueError, LookupError, RecursionError):
        return []
    if root is None:
        return []
    rdf = root if root.tag == f"{{{RDF}}}RDF" else root.find(f"{{{RDF}}}RDF")
    return [] if rdf is None else rdf.findall(f"{{{RDF}}}Description")


def _properties(packet: bytes | str | None) -> Properties:
    """The known properties of a packet with their texts, whatever these are."""
    found: Properties = {}
    for description in _descriptions(packet):
        for name, value in description.attrib.items():
            found.setdefault(_split(name), [("", value)])
        for element in description:
            if isinstance(element.tag, str):
                found.setdefault(_split(element.tag), list(_items(element)))
    return {name: items for name, items in found.items() if _kind(name) is not None}


def _items(element: Element) -> Iterator[tuple[str, str]]:
    """The texts of a property, with their languages."""
    for array in element:
        if array.tag in (f"{{{RDF}}}{kind}" for kind in (ALT, SEQ, BAG)):
            for item in array:
                language = item.get(LANGUAGE, "x-default") if array.tag.endswith(ALT) else ""
                if len(item) == 0 and re.fullmatch(r"(?:[A-Za-z0-9-]{2,20})?", language):
                    yield language, (item.text or "").strip()
            return
    if len(element) == 0:
        yield "", (element.text or "").strip()


def _split(name: str) -> Name:
    space, _, local = name.removeprefix("{").rpartition("}")
    return space, local


def _text(properties: Properties, marked: bool = False) -> bytes:
    """The packet of these properties: values as attributes, lists as elements."""
    spaces = sorted({space for space, _ in properties})
    attributes = [f' xmlns:{KNOWN[space][0]}="{space}"' for space in spaces]
    elements = []
    for (space, local), items in properties.items():
        name, kind = f"{KNOWN[space][0]}:{local}", _kind((space, local))
        if kind in (VALUE, TEXT):
            attributes.append(f" {name}={quoteattr(' '.join(text for _, text in items))}")
            continue
        ordered = sorted(items, key=lambda item: item[0] != "x-default") if kind == ALT else items
        languages = [
            f" xml:lang={quoteattr(language or 'x-default')}" if kind == ALT else "" for language, _ in ordered
        ]
        written = "".join(
            f"<rdf:li{said}>{escape(text)}</rdf:li>" for said, (_, text) in zip(languages, ordered, strict=True)
        )
        elements.append(f"<{name}><rdf:{kind}>{written}</rdf:{kind}></{name}>")
    if marked:
        attributes.append(f' xmlns:editproof="{OURS}" editproof:{MARK}="True"')
    xml = (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about=""'
        f"{''.join(attributes)}>{''.join(elements)}</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    return f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{xml}<?xpacket end="w"?>'.encode(errors="replace")
