/* While a page is open and in view, asks twice a minute how many customers wait and how many have
   written since. It says so in the title and in a place of its own, and moves nothing. It stops
   where the server does not answer it any more: at the login page, or for want of a permission. */
"use strict";

const NEWS_MILLISECONDS = 30000;

document.querySelectorAll("[data-news]").forEach((place) => {
    const link = place.querySelector("a");
    const title = document.title.replace(/^\([^)]*\) /, "");
    let askedAt = performance.now();

    function show({ waiting, new: count }) {
        document.title = (waiting === "0" ? "" : "(" + waiting + ") ") + title;
        const { one, many } = place.dataset;
        const words = count === 1 ? one : many.replace("{count}", count);
        if (count && link.textContent !== words) {
            link.textContent = words;
            link.hidden = false;
        }
    }

    async function ask() {
        if (document.hidden || performance.now() - askedAt < NEWS_MILLISECONDS / 2) {
            return;
        }
        askedAt = performance.now();
        const response = await fetch(place.dataset.news, { redirect: "manual" }).catch(() => null);
        if (response?.ok) {
            show(await response.json());
        } else if (response && response.status < 500) {
            stop();
        }
    }

    function stop() {
        clearInterval(timer);
        document.removeEventListener("visibilitychange", ask);
        document.removeEventListener("securitypolicyviolation", stop);
    }

    const timer = setInterval(ask, NEWS_MILLISECONDS);
    document.addEventListener("visibilitychange", ask);
    document.addEventListener("securitypolicyviolation", stop);
});
