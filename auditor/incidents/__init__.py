"""What one actor did: findings and connections in order of time, and the certificates that were shown.

``of`` makes incidents of any audit, one just made or one of the store; ``told_of`` narrows an audit to one address.
"""

from auditor.incidents.actors import host_of, of, told_of
from auditor.incidents.certificates import shown_certificates
from auditor.incidents.story import Incident, Step

__all__ = ["Incident", "Step", "host_of", "of", "shown_certificates", "told_of"]
