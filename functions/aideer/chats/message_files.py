"""The images that messages show, for everyone that may read the messages."""

from aideer.chats import chat_access
from aideer.data import lookup
from aideer.data.models import Message, User
from aideer.schemas.uploads import FileAddressResponse
from aideer.security import auth
from aideer.uploads import references, uploads


def get_address(user: User, chat_id: str, n: int) -> FileAddressResponse:
    """Return an address of the uploaded image of a message.

    Raises NotFound, also if the image was deleted or the message is hidden from this user, and Forbidden for a private chat.
    """
    chat = chat_access.get_readable(user, chat_id)
    message = lookup.find(Message, chat.find_thread(n), n)
    if message is None or not (message.visibility or auth.may_manage(user, chat.owner_id)):
        raise uploads.not_found()
    upload = references.find_image(message)
    if upload is None:
        raise uploads.not_found()
    chat_access.record_reading(user, chat)
    return uploads.to_address(upload)
