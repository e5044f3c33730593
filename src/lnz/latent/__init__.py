from ._vae import VAE as VAE
