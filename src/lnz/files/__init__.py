"""Files: atomic writing, JSON, locks, safetensors and model files."""

from ._atomic import (
    atomic_file as atomic_file,
    check_name as check_name,
    is_leftover as is_leftover,
    short_path as short_path,
    sync_folder as sync_folder,
    write_atomically as write_atomically,
)
from ._cache import cache_folder as cache_folder
from ._environment import environment as environment
from ._json import (
    DamagedError as DamagedError,
    Kind as Kind,
    anything as anything,
    field as field,
    fields as fields,
    listed as listed,
    named as named,
    number as number,
    one_of as one_of,
    or_null as or_null,
    parse_json as parse_json,
    plain as plain,
    read_json as read_json,
    read_utf8 as read_utf8,
    short as short,
    text as text,
    whole as whole,
)
from ._lock import Held as Held, held as held
from ._mapped import forget_pages as forget_pages
from ._model_file import digest_of_model as digest_of_model, load as load, save as save
from ._safetensors import check_digest as check_digest, read_header as read_header, to_bytes as to_bytes
from ._signals import heard as heard
