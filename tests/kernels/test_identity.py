"""Kernels are equal if and only if they behave the same."""

import abc
import collections
import copy
import dataclasses
import enum
import functools
import operator
import pickle
import sys
from typing import NamedTuple

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro import handlers
from numpyro.infer.reparam import LocScaleReparam
from sklearn.base import BaseEstimator

from skaimz.kernels import ByValue, Inputs, Kernel, freeze, split_kernel, trace_kernel
from skaimz.kernels.identity import splits


def key_of_kernel(function):
    return split_kernel(function)[0]


def module_kernel(X, y=None, prior_scale=1.0, distribution="normal", n_knots=2):
    scale = numpyro.sample("scale", dist.HalfNormal(prior_scale))
    numpyro.sample("w", dist.Normal(0.0, 1.0).expand([n_knots]).to_event(1))
    distribution = dist.Normal if distribution == "normal" else dist.Cauchy
    numpyro.sample("y", distribution(X[:, 0], scale), obs=y)


def factory(value):
    def kernel(X, y=None):
        numpyro.sample("y", dist.Normal(X[:, 0] * value, 1.0), obs=y)

    return kernel


def script(source, **names):
    """Run source like a script, whose functions belong to ``__main__`` and cannot be imported."""
    namespace = {"__name__": "__main__", "numpyro": numpyro, "dist": dist, **names}
    exec(source, namespace)
    return namespace


class Settings:
    """An object with scikit-learn's parameter methods, but without its base class."""

    def __init__(self, **params):
        vars(self).update(params)

    def get_params(self, deep=True):
        found = dict(vars(self))
        for name, value in vars(self).items():
            if deep and hasattr(value, "get_params"):
                found.update({f"{name}__{inner}": v for inner, v in value.get_params().items()})
        return found

    def set_params(self, **params):
        for name, value in params.items():
            outer, _, inner = name.partition("__")
            getattr(self, outer).set_params(**{inner: value}) if inner else setattr(self, name, value)
        return self


class KernelObject(Settings):
    def __call__(self, X, y=None):
        numpyro.sample("y", dist.Normal(X[:, 0], self.scale), obs=y)


class OtherKernelObject(KernelObject):
    pass


class Shallow(KernelObject):
    """An object whose ``get_params`` omits the parameters of nested objects, as in many short classes."""

    def get_params(self, deep=True):
        return dict(vars(self))


@dataclasses.dataclass(frozen=True)
class Zero:
    value: float


# Values that have equal items or numbers, but differ in something else.
ALIKE = {
    "fields of named tuples": (collections.namedtuple("T", "a b")(1, 2), collections.namedtuple("T", "b a")(1, 2)),
    "masks": (np.ma.array([1.0, 2.0], mask=[0, 1]), np.ma.array([1.0, 2.0], mask=[1, 0])),
    "zeros in a frozen dataclass": (Zero(0.0), Zero(-0.0)),
    "weak types": (jnp.asarray(2.0), jnp.float32(2.0)),
    "NumPy and JAX": (np.ones(2, np.float32), jnp.ones(2, np.float32)),
}
taken_for_equal = pytest.mark.xfail(strict=True, reason="only a part of the value is looked at")
TAKEN_FOR_EQUAL = {
    "default factories": (collections.defaultdict(int), collections.defaultdict(list)),
}


class TestPlainValues:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: None,
            lambda: 1,
            lambda: 1.5,
            lambda: "a",
            lambda: b"a",
            lambda: (1, [2, {"a": {3}}]),
            lambda: {"a": np.arange(3), "b": [jnp.ones(2)]},
            lambda: np.array(["a", "b"]),
            lambda: np.float32(2.0),
            lambda: np.dtype("float32"),
            lambda: frozenset({1, 2}),
            lambda: np.sum,
            lambda: jnp.sum,
            lambda: np.random,
            lambda: dist.Normal(0.0, np.ones(2)),
            lambda: dist.constraints.positive,
            lambda: functools.partial(module_kernel, distribution="cauchy"),
            lambda: LocScaleReparam(0.5),
        ],
    )
    def test_equal_values_freeze_equal(self, make):
        one, other = freeze(make()), freeze(make())
        assert one == other
        assert hash(one) == hash(other)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (1, 2),
            (1, 1.0),
            (1, True),
            (0, False),
            ("1", b"1"),
            ((1, 2), [1, 2]),
            ({1, 2}, frozenset({1, 2})),
            ({"a": 1}, {"a": 2}),
            ({"a": 1}, {"b": 1}),
            (np.arange(3), np.arange(4)),
            (np.arange(3), np.array([0, 1, 3])),
            (np.zeros(4), np.zeros((2, 2))),
            (np.zeros(2, np.float32), np.zeros(2, np.float64)),
            (np.zeros(2, np.int32), np.zeros(2, np.float32)),
            (np.array([1.0, 2.0]), np.array([2.0, 1.0])),
            (np.float32(1.0), np.float64(1.0)),
            (dist.Normal(0.0, 1.0), dist.Normal(0.0, 2.0)),
            (dist.Normal(0.0, 1.0), dist.Cauchy(0.0, 1.0)),
            (LocScaleReparam(0.0), LocScaleReparam(1.0)),
            (np, jnp),
            (np.sum, np.mean),
            (int, float),
            (module_kernel, factory),
            (operator.itemgetter(0), operator.itemgetter(1)),
            (range(3), range(4)),
            (dist.Normal(0.0, 1.0).mask(True), dist.Normal(0.0, 1.0).mask(False)),
            *(pytest.param(*pair, id=name) for name, pair in ALIKE.items()),
            *(pytest.param(*pair, marks=taken_for_equal, id=name) for name, pair in TAKEN_FOR_EQUAL.items()),
        ],
    )
    def test_other_values_freeze_to_others(self, one, other):
        assert freeze(one) != freeze(other)

    def test_views_with_other_strides_are_equal(self):
        array = np.arange(12.0).reshape(3, 4)
        assert freeze(array.T) == freeze(array.T.copy())
        assert freeze(array.T) != freeze(array)

    def test_what_cannot_be_described_is_only_itself(self):
        one, other = object(), object()
        assert freeze(one) == freeze(one)
        assert freeze(one) != freeze(other)
        assert hash(freeze(one)) == hash(freeze(one))

    def test_by_value_compares_by_what_it_holds(self):
        one, other = ByValue.of({"a": np.arange(3)}), ByValue.of({"a": np.arange(3)})
        assert one == other
        assert hash(one) == hash(other)
        assert one.value is not other.value
        assert one != ByValue.of({"a": np.arange(4)})

    def test_random_keys_can_be_frozen(self):
        assert freeze(jax.random.key(0)) == freeze(jax.random.key(0))
        assert freeze(jax.random.key(0)) != freeze(jax.random.key(1))

    @pytest.mark.parametrize(
        "make",
        [
            lambda: np.array(["2020-01-01"], dtype="datetime64[D]"),
            lambda: np.datetime64("2020-01-01"),
            lambda: jnp.ones(2, jnp.bfloat16),
        ],
        ids=["dates", "date", "bfloat16"],
    )
    def test_arrays_of_any_type_can_be_frozen(self, make):
        assert freeze(make()) == freeze(make())

    def test_arrays_of_objects_are_frozen_by_value(self):
        # Strings that are created at run time, so that equal strings are different objects.
        assert freeze(np.array(["a" * int("40"), 1], object)) == freeze(np.array(["a" * int("40"), 1], object))

    def test_frames_can_be_frozen(self):
        hash(freeze(pd.DataFrame({"a": [1]})))

    def test_using_a_distribution_does_not_change_it(self):
        # Its transform has a weak reference to its inverse. A weak reference to a deleted object has no hash.
        distribution = dist.LogNormal(0.0, 1.0)
        distribution.log_prob(1.0)
        distribution.transforms[0].inv  # noqa: B018
        assert isinstance(hash(freeze(distribution)), int)
        assert freeze(distribution) == freeze(dist.LogNormal(0.0, 1.0))

    def test_zeros_of_either_sign_differ(self):
        assert freeze(0.0) != freeze(-0.0)

    def test_slots_are_part_of_an_object(self):
        class Slotted:
            __slots__ = ("__dict__", "value")

            def __init__(self, value):
                self.value = value

        assert freeze(Slotted(1)) != freeze(Slotted(2))


class TestFunctions:
    def test_a_function_of_a_module_stands_for_itself(self):
        assert freeze(module_kernel)[:2] == ("function", module_kernel)
        assert freeze(module_kernel) != ("function", copy.deepcopy)
        assert key_of_kernel(module_kernel) != key_of_kernel(factory)

    def test_closures_of_one_factory(self):
        assert key_of_kernel(factory(2.0)) == key_of_kernel(factory(2.0))
        assert hash(key_of_kernel(factory(2.0))) == hash(key_of_kernel(factory(2.0)))
        assert key_of_kernel(factory(2.0)) != key_of_kernel(factory(3.0))

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (np.arange(3.0), np.array([0.0, 1.0, 5.0])),
            ([1, 2], [2, 1]),
            ("a", "b"),
            (1, 1.0),
            (None, False),
            (dist.Normal(0.0, 1.0), dist.Normal(1.0, 1.0)),
        ],
    )
    def test_closures_over_any_value(self, one, other):
        assert key_of_kernel(factory(one)) == key_of_kernel(factory(copy.deepcopy(one)))
        assert key_of_kernel(factory(one)) != key_of_kernel(factory(other))

    def test_closures_over_closures(self):
        assert key_of_kernel(factory(factory(1.0))) == key_of_kernel(factory(factory(1.0)))
        assert key_of_kernel(factory(factory(1.0))) != key_of_kernel(factory(factory(2.0)))

    def test_lambdas(self):
        def make(scale):
            return lambda X, y=None: numpyro.sample("y", dist.Normal(X[:, 0], scale), obs=y)

        assert key_of_kernel(make(1.0)) == key_of_kernel(make(1.0))
        assert key_of_kernel(make(1.0)) != key_of_kernel(make(2.0))
        assert freeze(lambda X: X + 1) != freeze(lambda X: X + 2)

    def test_defaults_and_keyword_defaults(self):
        def make(default, keyword):
            return lambda X, y=None, a=default, *, b=keyword: X * a * b

        assert freeze(make(1, 2)) == freeze(make(1, 2))
        assert freeze(make(1, 2)) != freeze(make(3, 2))
        assert freeze(make(1, 2)) != freeze(make(1, 3))

    def test_a_script_run_twice_makes_equal_kernels(self):
        source = "SCALE = 2.0\ndef kernel(X, y=None):\n    numpyro.sample('y', dist.Normal(X[:, 0], SCALE), obs=y)"
        one, other = script(source)["kernel"], script(source)["kernel"]
        assert one is not other
        assert key_of_kernel(one) == key_of_kernel(other)

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("SCALE = 2.0", "SCALE = 3.0"),
            ("SCALE = [1]", "SCALE = (1,)"),
            ("def SCALE(): return 1", "def SCALE(): return 2"),
        ],
    )
    def test_changed_globals_are_noticed(self, before, after):
        source = "def kernel(X, y=None):\n    return X * SCALE"
        assert freeze(script(f"{before}\n{source}")["kernel"]) == freeze(script(f"{before}\n{source}")["kernel"])
        assert freeze(script(f"{before}\n{source}")["kernel"]) != freeze(script(f"{after}\n{source}")["kernel"])

    def test_a_global_changed_in_place_is_noticed(self):
        namespace = script("TABLE = [1]\ndef kernel(X, y=None):\n    return X * TABLE[0]")
        before = freeze(namespace["kernel"])
        namespace["TABLE"][0] = 2
        assert freeze(namespace["kernel"]) != before

    def test_globals_behind_helpers_and_inner_functions_are_noticed(self):
        source = (
            "def helper(x):\n    return x * SCALE\n"
            "def kernel(X, y=None):\n    inner = lambda x: [helper(v) for v in x]\n    return inner(X)"
        )
        one, same, other = (script(f"SCALE = {scale}\n{source}")["kernel"] for scale in (1, 1, 2))
        assert freeze(one) == freeze(same)
        assert freeze(one) != freeze(other)

    def test_globals_that_are_not_read_do_not_matter(self):
        source = "def kernel(X, y=None):\n    return X"
        assert freeze(script(f"UNUSED = 1\n{source}")["kernel"]) == freeze(script(f"UNUSED = 2\n{source}")["kernel"])

    def test_other_code_under_one_name_differs(self):
        source = "def kernel(X, y=None):\n    return X {} 2"
        assert freeze(script(source.format("+"))["kernel"]) != freeze(script(source.format("*"))["kernel"])

    @pytest.mark.parametrize("value", [2.0, np.arange(3.0), [1, {"a": "b"}]])
    def test_equal_after_a_round_trip_through_cloudpickle(self, value):
        kernel = lambda X, y=None: numpyro.sample("y", dist.Normal(X[:, 0] * value, 1.0), obs=y)  # noqa: E731
        copied = pickle.loads(cloudpickle.dumps(kernel))
        assert copied is not kernel
        assert key_of_kernel(copied) == key_of_kernel(kernel)
        assert hash(key_of_kernel(copied)) == hash(key_of_kernel(kernel))

    def test_a_script_function_is_equal_after_cloudpickle(self):
        source = "SCALE = 2.0\ndef helper(x):\n    return SCALE * x\ndef kernel(X, y=None):\n    return helper(X)"
        kernel = script(source)["kernel"]
        copied = pickle.loads(cloudpickle.dumps(kernel))
        assert copied is not kernel
        assert key_of_kernel(copied) == key_of_kernel(kernel)

    @pytest.mark.parametrize(
        "source",
        [
            "def kernel(n):\n    return n and kernel(n - 1)",
            "def kernel(n):\n    return n and other(n - 1)\ndef other(n):\n    return n and kernel(n - 1)",
            "items = []\nitems.append(items)\ndef kernel(X, y=None):\n    return items",
            "class Node: pass\nnode = Node()\nnode.itself = node\ndef kernel(X, y=None):\n    return node",
        ],
        ids=["itself", "each other", "a list in itself", "an object in itself"],
    )
    def test_cycles_end(self, source):
        kernel = script(source)["kernel"]
        assert freeze(kernel) == freeze(kernel)
        assert isinstance(hash(freeze(kernel)), int)

    def test_recursive_functions_made_twice_are_equal(self):
        source = "def kernel(n):\n    return n and other(n - 1)\ndef other(n):\n    return n {} kernel(n - 1)"
        one, same, other = (script(source.format(word))["kernel"] for word in ("and", "and", "or"))
        assert freeze(one) == freeze(same)
        assert freeze(one) != freeze(other)

    def test_bound_methods_are_described_by_their_object(self):
        assert freeze(KernelObject(scale=1.0).__call__) == freeze(KernelObject(scale=1.0).__call__)
        assert freeze(KernelObject(scale=1.0).__call__) != freeze(KernelObject(scale=2.0).__call__)

    @pytest.mark.parametrize(
        "make",
        [lambda names: names["Plain"](), lambda names: names["Plain"]().method, lambda names: names["kernel"]],
        ids=["object", "bound method", "function that uses the class"],
    )
    def test_changed_globals_of_a_script_class_are_noticed(self, make):
        names = script(
            "SCALE = 1.0\n"
            "class Plain:\n"
            "    def __call__(self, X, y=None):\n        return X * SCALE\n"
            "    def method(self, X, y=None):\n        return X * SCALE\n"
            "def kernel(X, y=None):\n    return Plain()(X)"
        )
        before = key_of_kernel(make(names))
        names["SCALE"] = 2.0
        assert key_of_kernel(make(names)) != before

    @pytest.mark.parametrize(
        "source",
        [
            "@dataclasses.dataclass(frozen=True)\nclass K:\n    def __call__(self, X, y=None): return X * SCALE",
            "class K(NamedTuple):\n    a: int = 1\n    def __call__(self, X, y=None): return X * SCALE",
            "class K(dict):\n    def __call__(self, X, y=None): return X * SCALE",
            "class K:\n    @property\n    def s(self): return SCALE\n"
            "    def __call__(self, X, y=None): return X * self.s",
            "class K:\n    @staticmethod\n    def s(): return SCALE\n"
            "    def __call__(self, X, y=None): return X * self.s()",
            "def K():\n    return kernel\n@functools.wraps(module_kernel)\ndef kernel(X, y=None): return X * SCALE",
        ],
        ids=["frozen dataclass", "named tuple", "dict", "property", "staticmethod", "wraps"],
    )
    def test_changed_globals_are_noticed_wherever_they_are_read(self, source):
        names = script(
            source,
            SCALE=1.0,
            dataclasses=dataclasses,
            NamedTuple=NamedTuple,
            functools=functools,
            module_kernel=module_kernel,
        )
        kernel = names["K"]()
        before = key_of_kernel(kernel)
        names["SCALE"] = 2.0
        assert kernel(1.0) == 2.0
        assert key_of_kernel(kernel) != before

    @pytest.mark.parametrize(
        "source",
        [
            "class K:\n    def __call__(self, X, y=None): return X\nkernel = K()",
            "class K(BaseEstimator):\n    def __call__(self, X, y=None): return X\nkernel = K()",
            "@dataclasses.dataclass\nclass K:\n    a: int = 1\n"
            "    def __call__(self, X, y=None): return X\nkernel = K()",
            "h = jax.jit(lambda x: x)\ndef kernel(X, y=None): return h(X)",
            "h = jax.vmap(lambda x: x)\ndef kernel(X, y=None): return h(X)",
            "g = pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})\ndef kernel(X, y=None): return g",
            "class D(dist.Normal): pass\ndef kernel(X, y=None): return D",
            "class K:\n    @property\n    def s(self): return 1\n"
            "    def __call__(self, X, y=None): return X\nkernel = K()",
            "@functools.wraps(module_kernel)\ndef kernel(X, y=None): return 1",
            "h = jax.vmap(module_kernel)\ndef kernel(X, y=None): return h(X)",
            "class K(abc.ABC):\n    def __call__(self, X, y=None): return X\nkernel = K()",
            *(
                pytest.param(source, marks=pytest.mark.xfail(strict=True, reason="compared by identity"))
                for source in (
                    "class E(enum.Enum):\n    A = 1\ndef kernel(X, y=None): return E.A",
                    "g = operator.itemgetter(1)\ndef kernel(X, y=None): return g(X)",
                )
            ),
            pytest.param(
                "g = slice(3)\ndef kernel(X, y=None): return g",
                marks=pytest.mark.xfail(sys.version_info < (3, 12), strict=True, reason="slices had no hash"),
            ),
        ],
        ids=[
            "class",
            "estimator",
            "dataclass",
            "jit",
            "vmap",
            "frame",
            "distribution",
            "property",
            "wraps",
            "vmap of an importable",
            "abstract class",
            "enum",
            "itemgetter",
            "slice",
        ],
    )
    def test_scripts_run_in_two_processes_make_equal_kernels(self, source):
        modules = {module.__name__: module for module in (abc, dataclasses, enum, functools, jax, operator)}
        names = {**modules, "pd": pd, "BaseEstimator": BaseEstimator, "module_kernel": module_kernel}
        one, other = (script(source, **names)["kernel"] for _ in range(2))
        assert key_of_kernel(one) == key_of_kernel(other)

    @pytest.mark.parametrize(
        "transform",
        [
            "jit",
            pytest.param(
                "vmap",
                marks=pytest.mark.xfail(strict=True, reason="what jax.vmap returns has state of its own in each copy"),
            ),
        ],
    )
    def test_transformed_helpers_are_equal_after_cloudpickle(self, transform):
        source = f"h = jax.{transform}(lambda x: x)\ndef kernel(X, y=None): return h(X)"
        kernel = script(source, jax=jax)["kernel"]
        assert key_of_kernel(pickle.loads(cloudpickle.dumps(kernel))) == key_of_kernel(kernel)

    def test_attributes_of_functions_are_noticed(self):
        def make(scale):
            def kernel(X, y=None):
                return X * kernel.scale

            kernel.scale = scale
            return kernel

        assert freeze(make(1.0)) != freeze(make(2.0))

    def test_names_that_are_not_bound_yet_do_no_harm(self):
        def make():
            def kernel(X, y=None):
                return X if y is None else later

            if make is None:
                later = 1
            return kernel

        assert freeze(make()) == freeze(make())


class TestPartials:
    def test_numbers_are_taken_out_and_the_rest_is_in_the_key(self):
        table = np.arange(3.0)
        kernel, numbers = split_kernel(
            functools.partial(module_kernel, prior_scale=2.0, distribution="normal", n_knots=table)
        )
        assert numbers.keys() == {"prior_scale", "n_knots"}
        assert numbers["prior_scale"] == 2.0
        assert numbers["n_knots"] is table
        assert kernel.hyperparameters == ("n_knots", "prior_scale")

    def test_keys_do_not_see_the_numbers(self):
        make = functools.partial
        base = key_of_kernel(make(module_kernel, prior_scale=2.0, distribution="normal"))
        assert base == key_of_kernel(make(module_kernel, prior_scale=3.0, distribution="normal"))
        assert base == key_of_kernel(make(module_kernel, distribution="normal", prior_scale=3.0))
        assert base != key_of_kernel(make(module_kernel, prior_scale=2.0, distribution="cauchy"))
        assert base != key_of_kernel(make(module_kernel, distribution="normal"))
        assert base != key_of_kernel(make(module_kernel, distribution="normal", prior_scale=None))
        assert base != key_of_kernel(make(factory, prior_scale=2.0, distribution="normal"))

    def test_positional_arguments_stay_in_the_key(self):
        def kernel(scale, X, y=None):
            return X * scale

        assert split_kernel(functools.partial(kernel, 2.0))[1] == {}
        assert key_of_kernel(functools.partial(kernel, 2.0)) == key_of_kernel(functools.partial(kernel, 2.0))
        assert key_of_kernel(functools.partial(kernel, 2.0)) != key_of_kernel(functools.partial(kernel, 3.0))

    @pytest.mark.parametrize("value", [True, np.True_, np.array([True]), "a", None, (1.0, 2.0), [1.0]])
    def test_what_is_no_number_is_static(self, value):
        kernel, numbers = split_kernel(functools.partial(module_kernel, distribution=value))
        assert numbers == {}
        assert kernel.hyperparameters == ()

    def test_flags_are_in_the_key(self):
        partial = functools.partial
        assert key_of_kernel(partial(module_kernel, distribution=True)) != key_of_kernel(
            partial(module_kernel, distribution=False)
        )
        assert key_of_kernel(partial(module_kernel, distribution=True)) != key_of_kernel(
            partial(module_kernel, distribution=1)
        )

    def test_bind_applies_new_numbers_and_leaves_the_original(self):
        def kernel(X, y=None, scale=1.0, distribution="a"):
            return X * scale, distribution

        original = functools.partial(kernel, scale=2.0, distribution="b")
        split, numbers = split_kernel(original)
        assert split.bind(numbers)(1.0) == (2.0, "b")
        assert split.bind({"scale": 5.0})(1.0) == (5.0, "b")
        assert original(1.0) == (2.0, "b")
        assert original.keywords == {"scale": 2.0, "distribution": "b"}

    def test_keywords_that_look_nested_hide_nothing(self):
        one, other = (
            functools.partial(module_kernel, distribution=Settings(scale=scale), distribution__x=1.0)
            for scale in (1.0, 2.0)
        )
        assert split_kernel(one) != split_kernel(other)

    def test_parameter_objects_inside_partials_are_not_forgotten(self):
        one, other = (functools.partial(module_kernel, distribution=Settings(scale=scale)) for scale in (1.0, 2.0))
        # The key or the hyperparameters must contain its numbers.
        assert split_kernel(one) != split_kernel(other)


class TestKernelObjects:
    def test_numbers_are_taken_out(self):
        kernel, numbers = split_kernel(KernelObject(scale=2.0, order=3, distribution="normal", flag=True, nothing=None))
        assert numbers == {"scale": 2.0, "order": 3}
        assert kernel.hyperparameters == ("order", "scale")

    def test_keys_do_not_see_the_numbers(self):
        base = key_of_kernel(KernelObject(scale=2.0, distribution="normal", flag=True))
        assert base == key_of_kernel(KernelObject(scale=3.0, distribution="normal", flag=True))
        assert hash(base) == hash(key_of_kernel(KernelObject(scale=3.0, distribution="normal", flag=True)))
        assert base != key_of_kernel(KernelObject(scale=2.0, distribution="cauchy", flag=True))
        assert base != key_of_kernel(KernelObject(scale=2.0, distribution="normal", flag=False))
        assert base != key_of_kernel(OtherKernelObject(scale=2.0, distribution="normal", flag=True))

    @pytest.mark.parametrize("array", [np.arange(3.0), np.arange(3), jnp.ones((2, 2)), np.float32(1.0)])
    def test_arrays_are_numbers(self, array):
        kernel, numbers = split_kernel(KernelObject(scale=array, distribution="normal"))
        assert numbers["scale"] is array
        assert kernel == key_of_kernel(KernelObject(scale=array + 1, distribution="normal"))

    def test_arrays_that_hold_no_numbers_are_in_the_key(self):
        one, same, other = (KernelObject(names=np.array(names)) for names in (["a"], ["a"], ["b"]))
        assert split_kernel(one)[1] == {}
        assert key_of_kernel(one) == key_of_kernel(same)
        assert key_of_kernel(one) != key_of_kernel(other)

    def test_numbers_of_nested_objects(self):
        def make(scale, distribution="normal", prior=Settings):
            return KernelObject(scale=1.0, prior=prior(scale=scale, distribution=distribution))

        kernel, numbers = split_kernel(make(2.0))
        assert numbers == {"scale": 1.0, "prior__scale": 2.0}
        assert kernel == key_of_kernel(make(3.0))
        assert kernel != key_of_kernel(make(2.0, distribution="cauchy"))
        assert kernel != key_of_kernel(make(2.0, prior=KernelObject))

    def test_bind_applies_new_numbers_and_leaves_the_original(self):
        original = KernelObject(scale=1.0, prior=Settings(scale=2.0, distribution="normal"))
        kernel, _ = split_kernel(original)
        bound = kernel.bind({"scale": 7.0, "prior__scale": 8.0})
        assert (bound.scale, bound.prior.scale, bound.prior.distribution) == (7.0, 8.0, "normal")
        assert (original.scale, original.prior.scale) == (1.0, 2.0)
        assert isinstance(bound, KernelObject)

    def test_bind_without_numbers_gives_the_kernel_itself(self):
        kernel, numbers = split_kernel(module_kernel)
        assert numbers == {}
        assert kernel.bind({}) is module_kernel

    def test_integers_are_the_first_to_become_constants(self):
        kernel = KernelObject(scale=2.0, order=3, knots=np.arange(3), table=np.ones(2, np.float32))
        names = [hyperparameters.keys() for _, hyperparameters in splits(kernel)]
        assert names == [{"scale", "order", "knots", "table"}, {"scale", "table"}, set()]

    def test_equal_splits_come_once(self):
        assert [hyperparameters for _, hyperparameters in splits(module_kernel)] == [{}]
        assert [hyperparameters for _, hyperparameters in splits(KernelObject(scale=2.0))] == [{"scale": 2.0}, {}]

    def test_numbers_that_stay_are_in_the_key(self):
        one, other = (split_kernel(KernelObject(scale=scale), lambda value: False)[0] for scale in (1.0, 2.0))
        assert one != other
        assert one.hyperparameters == ()

    def test_numbers_that_a_shallow_get_params_hides_are_not_forgotten(self):
        assert split_kernel(Shallow(prior=Settings(scale=1.0))) != split_kernel(Shallow(prior=Settings(scale=2.0)))


class TestHandlers:
    @pytest.mark.parametrize(
        "wrap",
        [
            lambda kernel: handlers.scale(kernel, 2.0),
            lambda kernel: handlers.mask(kernel, mask=np.array([True, False])),
            lambda kernel: handlers.reparam(kernel, config={"w": LocScaleReparam(0)}),
            lambda kernel: handlers.substitute(kernel, data={"scale": np.float32(1.0)}),
            lambda kernel: handlers.scale(handlers.mask(kernel, mask=True), 0.5),
            lambda kernel: handlers.seed(kernel, rng_seed=0),
        ],
        ids=["scale", "mask", "reparam", "substitute", "nested", "seed"],
    )
    @pytest.mark.parametrize(
        "kernel",
        [module_kernel, factory(2.0), functools.partial(module_kernel, distribution="normal")],
        ids=["function", "closure", "partial"],
    )
    def test_equal_after_a_copy_and_when_made_twice(self, wrap, kernel):
        assert key_of_kernel(copy.deepcopy(wrap(kernel))) == key_of_kernel(wrap(kernel))
        assert hash(key_of_kernel(copy.deepcopy(wrap(kernel)))) == hash(key_of_kernel(wrap(kernel)))
        assert key_of_kernel(wrap(kernel)) != key_of_kernel(kernel)
        assert key_of_kernel(wrap(kernel)) != key_of_kernel(wrap(factory(3.0)))

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (handlers.scale(module_kernel, 2.0), handlers.scale(module_kernel, 3.0)),
            (handlers.mask(module_kernel, mask=True), handlers.mask(module_kernel, mask=False)),
            (
                handlers.reparam(module_kernel, config={"w": LocScaleReparam(0)}),
                handlers.reparam(module_kernel, config={"w": LocScaleReparam(0.5)}),
            ),
            (handlers.scale(module_kernel, 2.0), handlers.block(module_kernel)),
        ],
    )
    def test_other_handlers_make_other_kernels(self, one, other):
        assert key_of_kernel(one) != key_of_kernel(other)


class TestThroughTracing:
    @pytest.fixture
    def inputs(self):
        return Inputs({"X": np.zeros((6, 2), np.float32)}, {})

    def test_an_integer_that_decides_a_shape_becomes_static(self, inputs):
        def trace(**keywords):
            return trace_kernel(functools.partial(module_kernel, **keywords), inputs, "X", "y")

        three, numbers = trace(prior_scale=2.0, n_knots=3)
        four, _ = trace(prior_scale=2.0, n_knots=4)
        again, _ = trace(prior_scale=9.0, n_knots=3)
        assert numbers == {"prior_scale": 2.0}
        assert three.spec["w"].shape == (3,)
        assert four.spec["w"].shape == (4,)
        assert three != four
        assert three == again
        assert hash(three) == hash(again)

    def test_an_integer_that_decides_nothing_is_a_number(self, inputs):
        traced, numbers = trace_kernel(functools.partial(module_kernel, prior_scale=2), inputs, "X", "y")
        assert numbers == {"prior_scale": 2}
        assert traced.kernel.hyperparameters == ("prior_scale",)

    def test_a_float_that_decides_a_branch_becomes_static(self, inputs):
        def kernel(X, y=None, power=1.0, scale=1.0):
            numpyro.sample("y", dist.Normal(X[:, 0] if power > 1 else X[:, 1], scale), obs=y)

        assert trace_kernel(functools.partial(kernel, power=2.0, scale=3.0), inputs, "X", "y")[1] == {}

    def test_a_flag_may_decide_a_branch(self, inputs):
        class Flagged(KernelObject):
            def __call__(self, X, y=None):
                if self.flag:
                    numpyro.sample("extra", dist.Normal())
                numpyro.sample("y", dist.Normal(X[:, 0], self.scale), obs=y)

        on, numbers = trace_kernel(Flagged(flag=True, scale=1.0), inputs, "X", "y")
        off, _ = trace_kernel(Flagged(flag=False, scale=1.0), inputs, "X", "y")
        assert numbers == {"scale": 1.0}
        assert [site.name for site in on.spec.sites] == ["extra", "y"]
        assert [site.name for site in off.spec.sites] == ["y"]

    def test_the_model_runs_with_the_numbers_it_is_given(self, inputs):
        traced, numbers = trace_kernel(KernelObject(scale=2.0), inputs, "X", "y")
        for scale in (numbers["scale"], 5.0):
            with handlers.seed(rng_seed=0), handlers.trace() as trace:
                traced.model({"scale": scale}, inputs.rows, {})
            assert trace["y"]["fn"].scale == scale

    def test_kernels_are_plain_hashable_values(self):
        one, other = (Kernel(freeze(factory(1.0)), factory(1.0), ()) for _ in range(2))
        assert {one: "found"}[other] == "found"
