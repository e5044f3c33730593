"""This package's flows for `bench_flow_peers.py --adapter`: the architectures of the peers, trained step by step.

`maf`: affine masked-autoregressive layers, the variables in reverse between them. `rqs`: rational-quadratic spline
couplings, of which each layer changes half of the variables given the other half.
"""

from importlib.metadata import version

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import lnz


def make_flow(model, dim, cfg):
    """The flow whose density is the fast direction, as in the peers."""
    space, key, sizes = lnz.Euclidean(dim), jr.key(cfg.seed), {"width": cfg.width, "depth": cfg.depth}
    if model == "maf":
        bijection = lnz.flows.masked_autoregressive(space, key=key, num_layers=cfg.maf_layers, **sizes)
    else:
        spline = {"num_bins": cfg.bins, "bound": cfg.tail_bound}
        # Peers permute at random (flowjax) or take every second variable in turns; of two there is one way only.
        order = "reverse" if dim == 2 else "random"
        flow = lnz.flows.coupling_spline(space, key=key, num_layers=cfg.rqs_layers, order=order, **spline, **sizes)
        bijection = lnz.bijections.Inverse(flow)
    return lnz.Transformed(lnz.Normal.standard(dim), bijection)


class Adapter:
    lib = "lnz"

    def __init__(self, model, dim, cfg):
        flow = make_flow(model, dim, cfg)
        self.params, static = eqx.partition(flow, lnz.trainable(flow))
        optimizer = optax.adam(cfg.lr)
        self.state, self.key = optimizer.init(self.params), jr.key(cfg.seed + 1)
        self.n_params = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        packages = ("lnz", "jax", "equinox")
        self.versions = {name: version(name) for name in packages} | {"device": str(jax.devices()[0])}

        def log_prob(params, x):
            return jax.vmap(eqx.combine(params, static).log_prob)(x)

        def step(params, state, x):
            loss, gradient = jax.value_and_grad(lambda params: -jnp.mean(log_prob(params, x)))(params)
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state, loss

        def roundtrip(params, x):
            bijection = eqx.combine(params, static).bijection

            def one(x):
                z, log_det = bijection.inverse_and_log_det(x)
                back, log_det_back = bijection.forward_and_log_det(z)
                return jnp.max(jnp.abs(back - x)), jnp.abs(log_det + log_det_back)

            return tuple(jnp.max(values) for values in jax.vmap(one)(x))

        self._step, self._log_prob, self._roundtrip = jax.jit(step), jax.jit(log_prob), jax.jit(roundtrip)
        self._sample = jax.jit(lambda params, key, n: eqx.combine(params, static).sample(key, (n,)), static_argnums=2)

    def put(self, x):
        return jnp.asarray(x)

    def train_step(self, x):
        self.params, self.state, loss = self._step(self.params, self.state, x)
        return float(loss)

    def log_prob(self, x):
        return np.asarray(self._log_prob(self.params, x))

    def sample(self, n):
        self.key, key = jr.split(self.key)
        return np.asarray(self._sample(self.params, key, n))

    def roundtrip(self, x):
        return tuple(float(value) for value in self._roundtrip(self.params, x))


build = Adapter
