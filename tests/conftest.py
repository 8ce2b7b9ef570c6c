from hypothesis import HealthCheck, settings

# A busy machine is no failure: no test asserts on time.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
