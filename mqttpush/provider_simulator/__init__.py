"""Provider simulator: local FCM, APNs, JPush and Web Push that check what the real ones check.

`open_providers` starts all of them in this process; `Fault` is what goes wrong on request. The
package knows nothing of the server: it is a strict stand-in for strangers, for this project's tests
and for the tests of those who use it.
"""

from mqttpush.provider_simulator.faults import Cut, Fault
from mqttpush.provider_simulator.providers import Providers, open_providers

__all__ = ["Cut", "Fault", "Providers", "open_providers"]
