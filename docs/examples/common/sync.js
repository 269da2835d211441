// What the examples share: who one is, the connection, and following a collection.

/** The user's name: from ?name=, else made up and kept for this tab. */
export function whoAmI() {
  const name = new URLSearchParams(location.search).get('name') ?? sessionStorage.getItem('name') ?? madeUpName();
  sessionStorage.setItem('name', name);
  return name;
}

function madeUpName() {
  const pick = (words) => words[Math.floor(Math.random() * words.length)];
  const colour = pick(['Amber', 'Coral', 'Indigo', 'Jade', 'Ochre', 'Ruby', 'Silver', 'Teal', 'Violet']);
  const animal = pick(['Badger', 'Crane', 'Dolphin', 'Falcon', 'Heron', 'Lynx', 'Marten', 'Otter', 'Stoat']);
  return `${colour} ${animal} ${Math.floor(Math.random() * 90) + 10}`;
}

/** A colour that is the same for one name in every tab. */
export function colourOf(name) {
  let hash = 0;
  for (const char of name) hash = (hash * 31 + char.codePointAt(0)) % 360;
  return `hsl(${hash} 65% 45%)`;
}

/** A client of the cluster, whose state the page's header shows; options are more ones for it. */
export async function connect(identity, options = {}) {
  const client = new Twilio.Sync.Client(await fetchToken(identity), {
    Twilsock: { uri: `ws://${location.host}/v3/wsconnect` },
    ...options,
  });
  const renew = async () => client.updateToken(await fetchToken(identity));
  client.on('tokenAboutToExpire', renew);
  client.on('tokenExpired', renew);

  showConnection(client.connectionState);
  client.on('connectionStateChanged', showConnection);
  document.querySelector('#me').textContent = identity;
  return client;
}

async function fetchToken(identity) {
  const response = await fetch(`/token?identity=${encodeURIComponent(identity)}`);
  if (!response.ok) throw new Error(`no token: ${response.status}`);
  return response.text();
}

function showConnection(state) {
  const badge = document.querySelector('#connection');
  badge.textContent = state;
  badge.dataset.state = state;
}

/**
 * Calls show(id, data) for each item of a map or list, now and whenever one is
 * added or changes, and hide(id) when one is removed. id is the key or index;
 * query goes to getItems. Resolves when all present items were shown.
 */
export async function follow(collection, query, show, hide) {
  // An event that comes while pages are read is newer than what they say of the item.
  const heard = new Set();
  const idOf = (item) => item.key ?? item.index;
  const changed = ({ item }) => {
    heard.add(idOf(item));
    show(idOf(item), item.data);
  };
  collection.on('itemAdded', changed);
  collection.on('itemUpdated', changed);
  collection.on('itemRemoved', (event) => {
    heard.add(event.key ?? event.index);
    hide(event.key ?? event.index);
  });

  let page = await collection.getItems(query);
  for (;;) {
    for (const item of page.items) {
      if (!heard.has(idOf(item))) show(idOf(item), item.data);
    }
    if (!page.hasNextPage) return;
    page = await page.nextPage();
  }
}
