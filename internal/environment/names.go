package environment

import (
	"fmt"
	"slices"
	"strings"
)

// pypiNames are conda packages that go by another name on PyPI.
var pypiNames = map[string]string{
	"cupy":              "cupy-cuda12x",
	"dask-core":         "dask",
	"faiss":             "faiss-cpu",
	"fbprophet":         "prophet",
	"matplotlib-base":   "matplotlib",
	"msgpack-python":    "msgpack",
	"numpy-base":        "numpy",
	"opencv":            "opencv-python-headless",
	"psycopg2":          "psycopg2-binary",
	"py-lightgbm":       "lightgbm",
	"py-opencv":         "opencv-python-headless",
	"py-xgboost":        "xgboost",
	"py-xgboost-cpu":    "xgboost",
	"py-xgboost-gpu":    "xgboost",
	"pyqt":              "pyqt5",
	"pytables":          "tables",
	"python-blosc":      "blosc",
	"python-graphviz":   "graphviz",
	"python-lmdb":       "lmdb",
	"pytorch":           "torch",
	"pytorch-cpu":       "torch",
	"pytorch-gpu":       "torch",
	"ray-core":          "ray",
	"ray-default":       "ray",
	"redis-py":          "redis",
	"seaborn-base":      "seaborn",
	"tensorflow-base":   "tensorflow",
	"tensorflow-cpu":    "tensorflow",
	"tensorflow-gpu":    "tensorflow",
	"torchvision-cpu":   "torchvision",
	"transformers-base": "transformers",
}

// inWheels are conda packages whose content is inside the wheels that need it.
var inWheels = []string{
	"_libgcc_mutex", "_openmp_mutex", "blas", "ca-certificates", "cpuonly", "cudatoolkit", "cudnn", "intel-openmp",
	"libblas", "libcblas", "libffi", "libgcc", "libgcc-ng", "libgfortran", "libgomp", "liblapack", "libstdcxx-ng", "llvm-openmp",
	"mkl", "mkl-service", "mkl_fft", "mkl_random", "nccl", "nomkl", "openblas", "openssl", "pytorch-cuda", "pytorch-mutex",
}

// notPython are conda packages that PyPI cannot give.
var notPython = []string{
	"ffmpeg", "gcc", "git", "git-lfs", "graphviz", "gxx", "gxx_linux-64", "gcc_linux-64", "make", "mpich", "nodejs", "openjdk", "openmpi", "perl", "r-base", "rust", "wget",
}

// onPyPI gives the PyPI requirements that come nearest to conda packages, and what a person should know about it, each after
// the word by which such lines are found in the log of preparing.
func onPyPI(packages []condaPackage) (requirements, warnings []string) {
	var same, wheels, lost, loose []string
	for _, p := range packages {
		switch {
		case slices.Contains(inWheels, p.Name) || strings.HasPrefix(p.Name, "cuda-"):
			wheels = append(wheels, p.Name)
			continue
		case slices.Contains(notPython, p.Name) || strings.HasPrefix(p.Name, "r-"):
			lost = append(lost, p.Name)
			continue
		}
		name, renamed := pypiNames[p.Name]
		if !renamed {
			name = pypiName(p.Name)
			same = append(same, name)
		} else {
			same = append(same, p.Name+" as "+name)
		}
		version, ok := toPEP440(p.Version)
		if !ok {
			loose = append(loose, p.String())
		}
		requirements = append(requirements, name+version)
	}
	add := func(list []string, what string) {
		if len(list) > 0 {
			warnings = append(warnings, "warning: "+fmt.Sprintf(what, strings.Join(list, ", ")))
		}
	}
	add(same, "from PyPI instead of conda: %s")
	add(wheels, "left out, being part of the wheels that need it: %s")
	add(lost, "left out, not being on PyPI: %s")
	add(loose, "in any version, because PyPI has no such choice: %s")
	slices.Sort(requirements)
	return slices.Compact(requirements), warnings
}
