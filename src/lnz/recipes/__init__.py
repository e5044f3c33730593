"""Recipes: models with working settings, ready for `lnz train`."""

from ..runs import Recipe as Recipe, Start as Start
from ._autoencoders import (
    hvae_mnist as hvae_mnist,
    iwae_mnist as iwae_mnist,
    vae_digits as vae_digits,
    vae_faces as vae_faces,
    vae_frey as vae_frey,
    vae_gaussian as vae_gaussian,
    vae_mnist as vae_mnist,
    vae_mnist_conv as vae_mnist_conv,
    vae_mnist_iaf as vae_mnist_iaf,
    vae_mnist_planar as vae_mnist_planar,
    vampprior_mnist as vampprior_mnist,
)
from ._digits import (
    independent_digits as independent_digits,
    mixture_digits as mixture_digits,
    mixture_mnist as mixture_mnist,
    rbm_digits as rbm_digits,
    rbm_digits_exact as rbm_digits_exact,
    rbm_mnist as rbm_mnist,
    rbm_mnist_pcd25 as rbm_mnist_pcd25,
)
from ._find import all_recipes as all_recipes, find_recipe as find_recipe
from ._flows import flow_energy as flow_energy, flow_moons as flow_moons, flow_tabular as flow_tabular
from ._picture_flows import flow_digits as flow_digits, flow_mnist as flow_mnist
from ._tables import mixture_of_normals as mixture_of_normals, normal as normal
