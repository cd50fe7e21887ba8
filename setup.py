"""Which packages there are; everything else stands in setup.cfg, which knows one folder of packages only.

From Python 3.14 on, ``compression`` is a package of the standard library. So the folder of that name is no package:
it holds ``nasbench_compression``.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["search_spaces*", "controllers*", "nasbench", "nasbench.*", "nasbench_registry*"]),
        *find_packages("compression"),
    ],
    package_dir={"nasbench_compression": "compression/nasbench_compression"},
)
