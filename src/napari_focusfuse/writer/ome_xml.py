"""The description an OME-TIFF carries: size, scale and provenance."""

from __future__ import annotations

from xml.etree import ElementTree

from .pyramid import PyramidSpec

_OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_SCHEMAS = "http://www.w3.org/2001/XMLSchema-instance"
_NAMESPACE = "napari-focusfuse/provenance"
_TYPES = {"uint8": "uint8", "float32": "float"}


def ome_xml(spec: PyramidSpec, mpp: tuple[float, float] | None, about: str, name: str) -> bytes:
    """Return OME-XML of our own: tifffile's holds a random identifier, so files would differ.

    Parameters
    ----------
    about
        The provenance as JSON.
    name
        What a viewer calls the image.
    """
    ElementTree.register_namespace("", _OME)
    ElementTree.register_namespace("xsi", _SCHEMAS)
    pixels = {
        "ID": "Pixels:0",
        "DimensionOrder": "XYCZT",
        "Type": _TYPES[spec.dtype],
        "SizeX": str(spec.width),
        "SizeY": str(spec.height),
        "SizeC": str(spec.samples),
        "SizeZ": "1",
        "SizeT": "1",
        "Interleaved": "true",
    }
    for axis, size in zip("YX", mpp or (), strict=False):
        pixels |= {f"PhysicalSize{axis}": repr(float(size)), f"PhysicalSize{axis}Unit": "µm"}
    # Validators find the schema by this.
    root = ElementTree.Element(
        f"{{{_OME}}}OME", {f"{{{_SCHEMAS}}}schemaLocation": f"{_OME} {_OME}/ome.xsd"}
    )

    def add(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
        return ElementTree.SubElement(parent, f"{{{_OME}}}{tag}", attributes)

    node = add(root, "Image", ID="Image:0", Name=name)
    data = add(node, "Pixels", **pixels)
    add(data, "Channel", ID="Channel:0:0", SamplesPerPixel=str(spec.samples))
    add(data, "TiffData", IFD="0", PlaneCount="1")
    add(node, "AnnotationRef", ID="Annotation:0")
    annotations = add(root, "StructuredAnnotations")
    note = add(annotations, "CommentAnnotation", ID="Annotation:0", Namespace=_NAMESPACE)
    add(note, "Value").text = about
    # UTF-8, though TIFF's text tags are 7-bit: Bio-Formats turns the character references of ASCII
    # into spaces and then knows neither the unit nor the pyramid.
    xml: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return xml


def provenance_in(xml: str) -> str | None:
    """Return the provenance in OME-XML as JSON, or None if it has none, or is no XML."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    for note in root.iter(f"{{{_OME}}}CommentAnnotation"):
        if note.get("Namespace") == _NAMESPACE:
            return note.findtext(f"{{{_OME}}}Value")
    return None
